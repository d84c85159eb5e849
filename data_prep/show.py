"""Show samples of a prepared corpus as text, and the files they come from.

python data_prep/show.py runs/quickstart/data                     what there is
python data_prep/show.py runs/quickstart/data python 0 17         two samples of one language
"""

import argparse
import sys

from codelm.data.manifest import Manifest, load_manifest
from codelm.data.shard_reader import ShardReader
from codelm.data.trace import documents_of_sample
from codelm.errors import DataError, exit_on_error
from codelm.tokenizer import load_tokenizer


@exit_on_error
def main() -> None:
    # A file name may hold bytes that are not UTF-8.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="an output folder of data_prep/main.py")
    parser.add_argument("language", nargs="?", help="such as python; without it, the languages are listed")
    parser.add_argument("samples", nargs="*", type=int, default=[0], help="numbers of samples, from 0")
    parser.add_argument("--split", default="train", choices=["train", "validation"])
    arguments = parser.parse_args()
    manifest = load_manifest(arguments.folder)
    if arguments.language is None:
        list_languages(manifest)
        return
    if arguments.language not in manifest.splits[arguments.split]:
        known = ", ".join(manifest.splits[arguments.split])
        raise DataError(f"{arguments.folder} holds no {arguments.language} in {arguments.split}; it holds {known}")
    for sample in arguments.samples:
        show(arguments.folder, arguments.split, arguments.language, sample)


def list_languages(manifest: Manifest) -> None:
    for split, languages in manifest.splits.items():
        for language, stream in languages.items():
            print(f"{split:<12}{language:<18}{stream.samples:>10,} samples of {stream.files:,} files")


def show(folder: str, split: str, language: str, sample: int) -> None:
    """The sample's documents, each under a line that says where it is from."""
    reader = ShardReader(folder, split, language)
    if not 0 <= sample < len(reader):
        raise DataError(f"{language} has the samples 0 to {len(reader) - 1} in {split}, not {sample}")
    tokenizer = load_tokenizer(f"{folder}/tokenizer")
    row = reader[sample]
    print(f"──── {split}/{language} sample {sample}: {reader.max_seq_len} tokens")
    for part in documents_of_sample(folder, split, language, sample, reader.max_seq_len):
        commit = f"@{part.commit[:12]}" if part.commit else ""
        print(f"──── {part.repository}{commit}:{part.path}  [tokens {part.first} to {part.end} of the sample]")
        print(tokenizer.decode(row[part.first : part.end]))


if __name__ == "__main__":
    main()
