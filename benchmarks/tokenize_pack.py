"""Text to shards, MB/s of one process: our stages, llm-foundry's way, slow tokenizers, bare SentencePiece.

All read the same documents with the same `spiece.model`. `codelm` is the pipeline's own stages from the store to the
shards, files and hashes included (`tokenise_partition`, `pack_stream`). `llm-foundry's way` is our re-creation of what
its convert_dataset scripts do (llm-foundry 0.22, mosaicml-streaming 0.13; neither can be installed beside our stack):
the slow tokenizer's `__call__` a document, one Python list that grows and is cut at its front, a row at a time as int32
into MDS. Its DataLoader, progress bar and upload are left out, in its favour. On transformers 4 the slow tokenizer is
T5Tokenizer (its SentencePiece class), on 5 the SentencePiece base class that replaced it; our own class for
transformers, with an efficient list, is shown beside it. The paths take turns; the fastest of `--repeat` counts.

    python benchmarks/tokenize_pack.py --megabytes 3 --repeat 3
    python benchmarks/tokenize_pack.py --corpus FOLDER          source files below a folder instead of Python's own
"""

import argparse
import contextlib
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import transformers

from codelm.data.documents import Document
from codelm.data.packing.pack import Packing, PackTask, pack_stream
from codelm.data.packing.tokenise import TokeniseTask, tokenise_partition
from codelm.data.shards import token_dtype
from codelm.data.store import DocumentWriter
from codelm.languages import language_of
from codelm.model import ReplitCodeTokenizer
from codelm.tokenizer import load_tokenizer
from codelm.tokenizer_training import train_tokenizer

LENGTH = 2048
SHARD_BYTES = 1 << 26


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=3.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--tokenizer", help="a folder with spiece.model; default: train one here")
    parser.add_argument("--corpus", help="a folder of source files; default: the standard library")
    args = parser.parse_args()
    if args.corpus:
        texts = source_files(sorted(path for path in Path(args.corpus).rglob("*") if language_of(path.name)), args)
    else:
        texts = source_files(standard_library(), args)
    size = sum(len(text.encode()) for text in texts) / 1e6
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(args.tokenizer or scratch) if args.tokenizer else Path(scratch) / "tokenizer"
        if not args.tokenizer:
            train_tokenizer(texts, args.vocab_size, folder)
        documents = store(texts, Path(scratch) / "documents")
        paths = {
            "bare sentencepiece": bare(folder),
            "codelm": ours(folder, documents, len(texts), "concat"),
            "codelm, best-fit": ours(folder, documents, len(texts), "best_fit"),
            **slow_tokenizers(folder),
        }
        best = dict.fromkeys(paths, float("inf"))
        for turn in range(args.repeat):
            for name, convert in paths.items():
                started = time.process_time()
                convert(texts, Path(scratch) / f"{name}.{turn}".replace(" ", "_").replace("'", ""))
                best[name] = min(best[name], time.process_time() - started)
    print(f"{len(texts)} files, {size:.1f} MB, transformers {transformers.__version__}, CPU time of one process")
    for name, seconds in best.items():
        print(f"{name:<36}{size / seconds:>8.2f} MB/s   codelm / this: {seconds / best['codelm']:.2f}")


def standard_library() -> list[Path]:
    """The Python files of the standard library."""
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    return [path for path in files if "site-packages" not in path.parts]


def source_files(paths: list[Path], args: argparse.Namespace) -> list[str]:
    """The texts of files drawn from all over the paths, some `args.megabytes` of them."""
    texts: list[str] = []
    total, limit = 0, args.megabytes * 1e6
    sizes = sum(path.stat().st_size for path in paths if path.is_file())
    for path in paths[:: max(1, int(sizes / limit))] if args.corpus else paths:
        if total > limit:
            break
        with contextlib.suppress(UnicodeDecodeError, OSError):
            texts.append(path.read_bytes().decode())
            total += len(texts[-1])
    return texts


Convert = Callable[[list[str], Path], None]


def store(texts: list[str], folder: Path) -> Path:
    """The documents as the stage before tokenising leaves them."""
    folder.mkdir()
    writer = DocumentWriter(folder)
    for number, text in enumerate(texts):
        writer.write(Document(text, f"{number}.py", "benchmark", None, "python", None, "", number.to_bytes(16, "big")))
    writer.close()
    return folder


def ours(tokenizer: Path, documents: Path, count: int, packing: Packing) -> Convert:
    loaded = load_tokenizer(tokenizer)

    def convert(texts: list[str], out: Path) -> None:
        scratch = out.parent / "stages"
        split = np.zeros(count, np.uint8)
        tokenise_partition(TokeniseTask(documents, out / "tokens", tokenizer, scratch, split))
        pack_stream(
            PackTask(
                name="train.python",
                tokens=(out / "tokens",),
                output=out / "train" / "python",
                summary=out / "summary.json",
                scratch=scratch,
                max_seq_len=LENGTH,
                dtype=token_dtype(loaded.vocab_size).name,
                shard_bytes=SHARD_BYTES,
                packing=packing,
                eos_id=loaded.eos_id,
            )
        )

    return convert


def bare(folder: Path) -> Convert:
    """Encoding alone: what no path can beat."""
    processor: Any = sentencepiece.SentencePieceProcessor()
    processor.LoadFromFile(str(folder / "spiece.model"))

    def convert(texts: list[str], out: Path) -> None:
        for text in texts:
            processor.encode(text)

    return convert


def slow_tokenizers(folder: Path) -> dict[str, Convert]:
    model = str(folder / "spiece.model")
    if int(transformers.__version__.split(".")[0]) < 5:
        slow: Any = transformers.T5Tokenizer(model, extra_ids=0, legacy=False)
    else:
        from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

        slow = SentencePieceBackend(vocab_file=model)
    return {
        "llm-foundry's way (re-created)": llm_foundry_way(slow),
        f"{type(slow).__name__}, efficient list": efficient_list(slow),
        "our ReplitCodeTokenizer, the same": efficient_list(ReplitCodeTokenizer(model)),
    }


def llm_foundry_way(tokenizer: Any) -> Convert:
    """One list for everything, cut at its front a row at a time; rows cached as bytes and written as MDS shards."""

    def convert(texts: list[str], out: Path) -> None:
        out.mkdir()
        buffer: list[int] = []
        samples: list[bytes] = []
        for text in texts:
            ids = tokenizer(text, truncation=False, padding=False)["input_ids"]
            buffer = [*buffer, *ids, 1]
            while len(buffer) >= LENGTH:
                row = np.asarray(buffer[:LENGTH], dtype=np.int32)
                buffer = buffer[LENGTH:]
                # A column `ndarray:int32` states its shape in every sample: number of axes, size of the numbers, shape.
                samples.append(b"\x05" + np.uint16(len(row)).tobytes() + row.tobytes())
                if len(samples) * (4 * LENGTH + 7) > SHARD_BYTES:
                    write_mds(out, samples)
                    samples = []
        write_mds(out, samples)

    return convert


def write_mds(out: Path, samples: list[bytes]) -> None:
    """A shard as mosaicml-streaming lays it out; columns of no fixed size have their sizes in front of each sample."""
    description = b'{"column_encodings": ["ndarray:int32"], "column_names": ["tokens"], "column_sizes": [null]}'
    bodies = [np.uint32(len(sample)).tobytes() + sample for sample in samples]
    offsets = np.cumsum([8 + 4 * len(bodies) + len(description), *map(len, bodies)], dtype=np.uint32)
    head = np.uint32(len(bodies)).tobytes() + offsets.tobytes() + description
    (out / f"shard.{len(list(out.iterdir())):05}.mds").write_bytes(head + b"".join(bodies))


def efficient_list(tokenizer: Any) -> Convert:
    """As a peer could do at best: whole rows at once, no shards."""

    def convert(texts: list[str], out: Path) -> None:
        out.mkdir()
        buffer: list[int] = []
        with (out / "rows").open("wb") as rows:
            for text in texts:
                buffer += [*tokenizer(text, truncation=False, padding=False)["input_ids"], 1]
                whole = len(buffer) // LENGTH * LENGTH
                rows.write(np.asarray(buffer[:whole], dtype=np.int32).tobytes())
                buffer = buffer[whole:]

    return convert


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    main()
