"""What 8 and 4 bits cost: `python benchmarks/quantization.py CHECKPOINT FILE…` prints bits per byte and sizes.

Each file is cut into pieces of `--length` tokens, at most `--tokens` in all; every token but a piece's first counts. A
folder stands for the files that `--pattern` finds directly in it. All rows score the same pieces.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch

from codelm.errors import DataError, exit_on_error
from codelm.model.pretrained import load
from codelm.model.quantization import quantize, weight_bytes
from codelm.tokenizer import CodeTokenizer, JsonTokenizer

ROWS = {
    "fp32": (torch.float32, None),
    "bf16": (torch.bfloat16, None),
    "int8": (torch.float32, "int8"),
    "int8, bf16 around it": (torch.bfloat16, "int8"),
    "nf4": (torch.float32, "nf4"),
    "nf4, bf16 around it": (torch.bfloat16, "nf4"),
    "fp4": (torch.float32, "fp4"),
}


@exit_on_error
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("files", nargs="+", type=Path, help="source files, or folders of them")
    parser.add_argument("--pattern", default="*.py", help="files of a folder (default: %(default)s)")
    parser.add_argument("--length", type=int, default=512, help="tokens in a piece (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=20_000, help="tokens in all (default: %(default)s)")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    _, tokenizer = load(arguments.checkpoint)
    pieces = cut(read(arguments.files, arguments.pattern), tokenizer, arguments.length, arguments.tokens)
    scored = sum(len(piece) - 1 for piece in pieces)
    size = sum(len(tokenizer.decode(piece[1:], keep_special=True).encode()) for piece in pieces)
    print(f"{arguments.checkpoint}: {len(pieces)} pieces, {scored:,} tokens, {size:,} bytes, on {arguments.device}")
    print(f"{'weights':>22} {'MB':>8} {'bits/byte':>10} {'more':>8} {'tokens/s':>9}")
    first = 0.0
    for name, (dtype, kind) in ROWS.items():
        model, _ = load(arguments.checkpoint, dtype=dtype)
        if kind:
            quantize(model, kind, arguments.device)
        else:
            model.to(arguments.device)
        began = time.perf_counter()
        bits = score(model, pieces) / size
        rate = scored / (time.perf_counter() - began)
        first = first or bits
        megabytes = weight_bytes(model) / 1e6
        print(f"{name:>22} {megabytes:8.1f} {bits:10.4f} {bits / first - 1:+8.2%} {rate:9.0f}", flush=True)


def read(paths: list[Path], pattern: str) -> list[str]:
    """The texts of files and of the files in folders, in the order of their names."""
    files = [file for path in paths for file in (sorted(path.glob(pattern)) if path.is_dir() else [path])]
    texts = []
    for file in files:
        try:
            texts.append(file.read_bytes().decode())
        except UnicodeDecodeError:
            continue
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}") from error
    if not texts:
        raise DataError(f"no file matches {pattern} in {', '.join(map(str, paths))}; name other files or a --pattern")
    return texts


def cut(texts: list[str], tokenizer: CodeTokenizer | JsonTokenizer, length: int, tokens: int) -> list[list[int]]:
    """Pieces of token ids, one from each text in turn, so that a few long files do not stand for all."""
    encoded = [tokenizer.encode(text) for text in texts]
    starts = range(0, max(map(len, encoded)), length)
    pieces = [ids[start : start + length] for start in starts for ids in encoded if len(ids) - start > 1]
    return pieces[: max(1, math.ceil(tokens / length))]


@torch.no_grad()
def score(model: Any, pieces: list[list[int]]) -> float:
    """Bits that the model needs for every token but each piece's first."""
    bits = 0.0
    for piece in pieces:
        ids = torch.tensor([piece], device=model.device)
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
        bits += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")) / math.log(2)
    return bits


if __name__ == "__main__":
    main()
