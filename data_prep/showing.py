"""What `show.py` does once everything is imported: list a corpus, show its samples, or trace a training step."""

import argparse
from pathlib import Path

import numpy as np
from sample_text import printable, render

from codelm.data.manifest import Manifest, load_manifest
from codelm.data.packing.trace import documents_of_sample
from codelm.data.reading.fim import Fim, FimSettings
from codelm.data.reading.shard_reader import ShardReader
from codelm.errors import DataError
from codelm.tokenizer import Tokenizer, load_tokenizer


def run(description: str | None) -> None:
    arguments = parse(description)
    if arguments.step is not None:
        from training_step import show_step  # torch is imported for this alone

        show_step(arguments.config, arguments.overrides, arguments.step, arguments.text)
        return
    manifest = load_manifest(arguments.folder)
    if arguments.language is None:
        list_languages(manifest)
        return
    if arguments.language not in manifest.splits.get(arguments.split, {}):
        known = ", ".join(manifest.splits.get(arguments.split, {})) or "nothing"
        raise DataError(f"{arguments.folder} holds no {arguments.language} in {arguments.split}; it holds {known}")
    tokenizer = load_tokenizer(Path(arguments.folder) / "tokenizer")
    fim = None
    if arguments.fim is not None:
        seed = manifest.settings.get("seed", 0) if arguments.seed is None else arguments.seed
        fim = Fim(tokenizer, FimSettings(arguments.fim), seed)
    for sample in arguments.samples:
        position = sample if arguments.position is None else arguments.position
        show(arguments.folder, arguments.split, arguments.language, sample, tokenizer, fim, position)


def parse(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="an output folder of data_prep/main.py")
    parser.add_argument("language", nargs="?", help="such as python; without it, the languages are listed")
    parser.add_argument("samples", nargs="*", type=int, default=[0], help="numbers of samples, from 0")
    parser.add_argument("--split", default="train", help="train (the default), validation or held_out")
    parser.add_argument("--fim", type=share, metavar="RATE", help="fill in the middle of so many documents")
    parser.add_argument("--position", type=int, help="of the sample in training (default: its number)")
    parser.add_argument("--seed", type=int, help="of the training run (default: the corpus's)")
    parser.add_argument("--step", type=int, metavar="N", help="trace a step of a training run to its files")
    parser.add_argument("--config", metavar="FILE", help="with --step: the YAML of the training run")
    parser.add_argument(
        "--set", nargs="+", default=[], dest="overrides", metavar="KEY=VALUE", help="with --step: over the YAML"
    )
    parser.add_argument("--text", action="store_true", help="with --step: the samples' text as well")
    arguments = parser.parse_args()
    if (arguments.step is None) != (arguments.config is None):
        parser.error("--step and --config belong together: --step 120 --config train.yaml")
    if arguments.step is None and arguments.folder is None:
        parser.error("name a folder of prepared data, or --step and --config")
    return arguments


def share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share from 0 to 1")
    return value


def list_languages(manifest: Manifest) -> None:
    for split, languages in manifest.splits.items():
        for language, stream in languages.items():
            print(f"{split:<12}{language:<18}{stream.samples:>10,} samples of {stream.files:,} files")


def show(
    folder: str, split: str, language: str, sample: int, tokenizer: Tokenizer, fim: Fim | None, position: int
) -> None:
    """The sample's documents, each under a line that says where it is from."""
    reader = ShardReader(folder, split, language)
    if not 0 <= sample < len(reader):
        raise DataError(f"{language} has the samples 0 to {len(reader) - 1} in {split}, not {sample}")
    rows = reader.read([sample])
    row = rows.tokens[0]
    mask = np.ones(len(row), np.uint8) if rows.loss_mask is None else rows.loss_mask[0]
    print(f"──── {split}/{language} sample {sample}: {reader.max_seq_len} tokens")
    parts = list(documents_of_sample(folder, split, language, sample, reader.max_seq_len))
    filled = parts[-1].end if parts else 0
    for part in parts:
        print(f"──── {printable(part.origin)}  [tokens {part.first} to {part.end} of the sample]")
        if fim is None:
            print(render(tokenizer, row[part.first : part.end], mask[part.first : part.end]))
    if filled < len(row):
        print(f"──── padding: {len(row) - filled} end-of-text tokens")
    if fim is not None:
        if rows.loss_mask is not None:
            raise DataError(
                f"{language} has a loss mask: training leaves such samples as they are; show it without --fim"
            )
        made, counts = fim.apply(row, position)
        print(
            f"──── as training sees it at position {position}: {counts.transformed} of {counts.documents} documents"
            f" transformed, {counts.tokens_added} tokens added, {counts.tokens_cut} cut"
        )
        print(render(tokenizer, made, mask))
