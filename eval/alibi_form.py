"""Which form of ALiBi does a checkpoint want? `python eval/alibi_form.py CHECKPOINT FILES…`"""

import argparse
import sys
import sysconfig
from pathlib import Path

from codelm.console import setup_logging
from codelm.errors import CheckpointError, DataError, exit_on_error


@exit_on_error
def main() -> None:
    args = _parse()
    setup_logging()
    texts = [_read(path) for path in args.files or _standard_library()]

    # torch and transformers take seconds to import: only once the files are known to be good.
    from tqdm import tqdm

    from codelm.eval.alibi_form import compare_forms
    from codelm.model import ReplitCodeForCausalLM
    from codelm.model.pretrained import load

    model, tokenizer = load(args.checkpoint)
    if not isinstance(model, ReplitCodeForCausalLM):
        raise CheckpointError(f"{args.checkpoint} is not of the replit-code architecture: it has no form of ALiBi")
    length = args.length or model.config.max_seq_len
    with tqdm(unit="window", disable=not sys.stderr.isatty(), leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        scores = compare_forms(model, tokenizer, texts, length, args.windows, progress)
    print(f"{scores.windows} windows of {length} tokens; bits per byte, the weights rounded to bf16:")
    for name, value in scores.bits_per_byte.items():
        print(f"  {name:20} {value:.4f}")
    print(scores.sentence())


def _standard_library() -> list[Path]:
    return sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text ({error}); name source files") from None


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Measure whether a checkpoint of the replit-code architecture was trained with Replit's row form "
        "of ALiBi in bf16 (attn_config.alibi_form: legacy) or without its roundings (relative)."
    )
    parser.add_argument("checkpoint", help="a checkpoint folder, the published layout, or a hub id")
    parser.add_argument("files", nargs="*", type=Path, help="source files; default: Python's standard library")
    parser.add_argument("--length", type=int, help="tokens in a window; default: the model's max_seq_len")
    parser.add_argument("--windows", type=int, default=16, help="at most so many (%(default)s)")
    args = parser.parse_args()
    if args.length is not None and args.length < 2:
        parser.error("--length must be at least 2: a window's first token is predicted from nothing")
    if args.windows < 2:
        parser.error("--windows must be at least 2, or there is no error to compare with")
    return args


if __name__ == "__main__":
    main()
