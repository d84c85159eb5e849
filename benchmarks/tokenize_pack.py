"""Text to shards, MB/s of one process: our tokenise + pack, transformers' slow tokenizers, bare SentencePiece.

All read the same documents with the same `spiece.model` and write the same MDS rows. The peers tokenise as
`convert_dataset` scripts do: the tokenizer's `__call__` a document, token ids appended to a list, cut into int32 rows.
On transformers 4 the peer is T5Tokenizer (its SentencePiece class), on 5 the SentencePiece base class that replaced
it; our own transformers class is shown beside it. The paths take turns; the fastest of `--repeat` counts.

    python benchmarks/tokenize_pack.py --megabytes 3 --repeat 3
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

from codelm.data.shards import ShardWriter, token_dtype
from codelm.data.tokenise import encode_document
from codelm.model import ReplitCodeTokenizer
from codelm.tokenizer import load_tokenizer
from codelm.tokenizer_training import train_tokenizer

LENGTH = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=3.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--tokenizer", help="a folder with spiece.model; default: train one here")
    args = parser.parse_args()
    texts = standard_library(args.megabytes * 1e6)
    size = sum(len(text.encode()) for text in texts) / 1e6
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(args.tokenizer or scratch) if args.tokenizer else Path(scratch) / "tokenizer"
        if not args.tokenizer:
            train_tokenizer(texts, args.vocab_size, folder)
        paths = {"bare sentencepiece": bare(folder), "codelm": ours(folder), **slow_tokenizers(folder)}
        best = dict.fromkeys(paths, float("inf"))
        for turn in range(args.repeat):
            for name, convert in paths.items():
                started = time.process_time()
                convert(texts, Path(scratch) / f"{name}.{turn}".replace(" ", "_"))
                best[name] = min(best[name], time.process_time() - started)
    print(f"{len(texts)} files, {size:.1f} MB, transformers {transformers.__version__}, CPU time of one process")
    for name, seconds in best.items():
        print(f"{name:<36}{size / seconds:>8.2f} MB/s   codelm / this: {seconds / best['codelm']:.2f}")


def standard_library(limit: float) -> list[str]:
    """Python files of the standard library, some `limit` bytes of them."""
    texts: list[str] = []
    total = 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if total > limit:
            break
        with contextlib.suppress(UnicodeDecodeError):
            if "site-packages" not in path.parts:
                texts.append(path.read_bytes().decode())
                total += len(texts[-1])
    return texts


Convert = Callable[[list[str], Path], None]


def ours(folder: Path) -> Convert:
    tokenizer = load_tokenizer(folder)
    dtype = token_dtype(tokenizer.vocab_size)

    def convert(texts: list[str], out: Path) -> None:
        with ShardWriter(out, LENGTH, dtype, 1 << 26) as writer:
            for text in texts:
                writer.write(np.frombuffer(encode_document(tokenizer, text, dtype), dtype))

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
    tokenizers: dict[str, Any] = {"transformers ReplitCodeTokenizer": ReplitCodeTokenizer(model)}
    if int(transformers.__version__.split(".")[0]) < 5:
        tokenizers["transformers T5Tokenizer (slow)"] = transformers.T5Tokenizer(model, extra_ids=0, legacy=False)
    else:
        from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

        tokenizers["transformers SentencePieceBackend"] = SentencePieceBackend(vocab_file=model)
    return {name: peer(tokenizer) for name, tokenizer in tokenizers.items()}


def peer(tokenizer: Any) -> Convert:
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
