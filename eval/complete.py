"""Complete code with a checkpoint, in the terminal: `python eval/complete.py CHECKPOINT "def fib(n):"`.

Only what the model wrote goes to stdout (with the prompt before it on a terminal), so that it can be piped; everything
else goes to stderr.
"""

import argparse
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codelm.console import setup_logging
from codelm.errors import EvaluationError, exit_on_error
from codelm.startup import many_imports

CURSOR = "<CURSOR>"
_EXAMPLES = f"""
examples:
  python eval/complete.py runs/quickstart "def fib(n):"
  python eval/complete.py runs/quickstart "def area(r):" --suffix "    return result"     between prompt and suffix
  python eval/complete.py runs/quickstart --file shop.py --line 12                      at the end of line 12
  python eval/complete.py runs/quickstart --file shop.py --line 12 --column 9           before its 9th character
  echo 'x = [{CURSOR}]' | python eval/complete.py runs/quickstart -                        at the mark
  python eval/complete.py runs/quickstart "import " -n 5 --temperature 0.8 --seed 1      five samples
  python eval/complete.py runs/quickstart "def f():" --stop "\\n\\n"                      \\n, \\t, \\\\ as in Python

What stands behind the cursor is shown to the model only where its tokenizer has fill-in-the-middle tokens.
"""


@dataclass(frozen=True)
class Place:
    """Where to complete: the text before, and the text behind (None: nothing is known of it)."""

    prefix: str
    suffix: str | None = None


@exit_on_error
def main() -> None:
    args = parse()
    place = read_place(args)
    setup_logging()

    # torch and transformers take seconds to import: only once the command line is known to be good.
    with many_imports():
        import torch

        from codelm.model.generation import generate
        from codelm.model.pretrained import load

    device = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    try:
        torch.device(device)
    except RuntimeError:
        raise EvaluationError(f"--device is {device!r}: say auto, cpu, cuda, or cuda:1 for the second GPU") from None
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise EvaluationError("--device is cuda, and torch sees no GPU: leave it out or say cpu")
    model, tokenizer = load(args.checkpoint, getattr(torch, args.dtype) if args.dtype else None, device)
    ids = prompt_ids(tokenizer, place, args.context)
    writer = Writer(tokenizer, args)
    writer.show_prompt(place.prefix)
    generate(
        model,
        [ids],
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        vocab_size=tokenizer.vocab_size,
        max_new_tokens=args.max_new_tokens,
        temperature=args.temperature,
        top_p=args.top_p,
        top_k=args.top_k,
        seed=args.seed,
        num_samples=args.samples,
        stop=writer.write,
        progress=writer.finish,
    )


def read_place(args: argparse.Namespace) -> Place:
    """The text around the cursor, as the command line gives it."""
    if args.file is None:
        text = sys.stdin.read() if args.prompt in (None, "-") else args.prompt
        source = "the prompt"
    else:
        source = str(args.file)
        try:
            text = args.file.read_bytes().decode()
        except OSError as error:
            raise EvaluationError(f"{source} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise EvaluationError(f"{source} is not UTF-8 text") from None
    if text.count(CURSOR) > 1:
        raise EvaluationError(f"{source} has {text.count(CURSOR)} marks {CURSOR}; leave one, where to complete")
    if args.line is not None:
        return split_at(text, args.line, args.column, source)
    prefix, mark, behind = text.partition(CURSOR)
    return Place(prefix, behind if mark else args.suffix)


def split_at(text: str, line: int, column: int | None, source: str) -> Place:
    """The text before and behind a line's end, or before its column's character; both count from 1."""
    lines = text.split("\n")
    if not 1 <= line <= len(lines):
        raise EvaluationError(f"{source} has {len(lines)} lines; --line is {line}")
    length = len(lines[line - 1].removesuffix("\r"))
    at = length if column is None else column - 1
    if not 0 <= at <= length:
        raise EvaluationError(f"line {line} of {source} has {length} characters; --column is {column}")
    offset = sum(len(before) + 1 for before in lines[: line - 1]) + at
    return Place(text[:offset], text[offset:])


def prompt_ids(tokenizer: Any, place: Place, context: int | None) -> list[int]:
    """The ids that the model goes on from: prefix, suffix, middle where there is a suffix."""
    prefix = tokenizer.encode(place.prefix)
    if not (place.suffix or "").strip():
        return (prefix if context is None else prefix[-context:]) or [tokenizer.eos_id]
    marks = [tokenizer.special_ids.get(name) for name in ("fim_prefix", "fim_suffix", "fim_middle")]
    if None in marks:
        raise EvaluationError(
            "the tokenizer of this checkpoint has no fill-in-the-middle tokens, so the model cannot see what stands"
            " behind the cursor: complete at the end of the text, without --suffix"
        )
    suffix = tokenizer.encode(place.suffix)
    if context is not None:
        # As editors do: most of the room for what stands before the cursor.
        suffix = suffix[: max(context // 4, context - len(prefix))]
        prefix = prefix[max(0, len(prefix) - (context - len(suffix))) :]
    return [marks[0], *prefix, marks[1], *suffix, marks[2]]


class Writer:
    """Writes samples as they come: one sample token by token to a terminal, several or to a pipe when each is whole."""

    def __init__(self, tokenizer: Any, args: argparse.Namespace) -> None:
        from codelm.eval.postprocess import PROFILES
        from codelm.eval.problem import Problem
        from codelm.model.stopping import StopStrings

        self.text_of = tokenizer.decode_behind
        self.profile = PROFILES[args.profile]
        self.strings = StopStrings(tokenizer.decode_behind, args.stop)
        self.specials = set(tokenizer.special_ids.values())
        self.terminal = sys.stdout.isatty()
        self.streaming = self.terminal and args.samples == 1
        self.samples = args.samples
        self.place = Problem(task_id="", prompt="")
        self.shown = 0
        self.ended: dict[int, str] = {}
        self.written = 0

    def show_prompt(self, prefix: str) -> None:
        """On a terminal, the last lines of the prompt before the completion, dimmed."""
        self.place = replace(self.place, prompt=prefix)
        if self.terminal:
            self._print(self._dim("\n".join(prefix.split("\n")[-5:])))

    def write(self, place: int, ids: list[int]) -> bool:
        """Show what is certain of the text so far; whether the sample is to end here."""
        text = self.text_of(ids)
        cut = self._cut(text, False)
        if self.streaming:
            # A character's bytes may come in several tokens, and trailing space or a stop string's beginning may go.
            certain = cut.rstrip("\ufffd")
            held = max((n for s in self._held() for n in range(1, len(s) + 1) if certain.endswith(s[:n])), default=0)
            certain = certain[: len(certain) - held]
            self._show(certain.rstrip() if self.profile.name == "model-card" else certain)
        if ids[-1] in self.specials or self.strings(place, ids):
            return True
        return self.profile.finished is not None and self.profile.finished(self.place, text)

    def finish(self, place: int, ids: list[int], reason: str) -> None:
        """Show the rest of a sample; of several, in their order, which is not that in which they end."""
        text = self._cut(self.text_of(ids), True)
        if self.samples > 1:
            self.ended[place] = text
            while self.written in self.ended:
                heading = f"--- {self.written + 1} of {self.samples} ---\n"
                self._print(f"{self._dim(heading) if self.terminal else heading}{self.ended.pop(self.written)}\n")
                self.written += 1
            return
        if self.streaming:
            self._show(text)
        else:
            self._print(text)
        if self.terminal:
            self._print("\n")

    def _cut(self, text: str, ended: bool) -> str:
        return self.profile.cut(self.place, self.strings.cut(text), ended)

    def _held(self) -> tuple[str, ...]:
        from codelm.eval.postprocess import STOP_WORDS

        return self.strings.strings + (STOP_WORDS if self.profile.name == "model-card" else ())

    def _show(self, text: str) -> None:
        self._print(text[self.shown :])
        self.shown = max(self.shown, len(text))

    def _dim(self, text: str) -> str:
        return text if "NO_COLOR" in os.environ else f"\033[2m{text}\033[0m"

    @staticmethod
    def _print(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Complete a prompt, a file or stdin with a checkpoint. Exit code 2: the input cannot be completed;"
        " 1: the machine failed.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", help="a checkpoint folder, a run's save_folder, any causal language model")
    parser.add_argument("prompt", nargs="?", help=f"the text to complete, at {CURSOR} or its end; - or none: stdin")
    parser.add_argument("--file", type=Path, help=f"complete this file, at {CURSOR}, --line or its end")
    parser.add_argument("--line", type=int, help="of the file, from 1")
    parser.add_argument("--column", type=int, help="of the line, from 1; without it, the line's end")
    parser.add_argument("--suffix", help="what stands behind the completion (needs fill-in-the-middle tokens)")
    parser.add_argument("--context", type=positive, help="show the model so many tokens around the cursor only")
    parser.add_argument("--max-new-tokens", type=positive, default=128, help="at most so many (%(default)s)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy (%(default)s)")
    parser.add_argument("--top-p", type=float, default=1.0, help="draw from the most probable part (%(default)s)")
    parser.add_argument("--top-k", type=int, default=0, help="draw from so many tokens; 0: all (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed, the same samples (%(default)s)")
    parser.add_argument("-n", "--samples", type=positive, default=1, help="completions (%(default)s)")
    parser.add_argument("--stop", action="append", default=[], type=unescaped, help="end before this text; repeatable")
    parser.add_argument(
        "--profile",
        choices=("none", "model-card"),
        default="none",
        help="model-card: end before return, def, ``` or two blank lines, and cut trailing space (%(default)s)",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 (%(default)s)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="of the weights; default: theirs")
    args = parser.parse_args()
    if args.file is None and args.prompt is None and sys.stdin.isatty():
        parser.error("give a prompt, --file, or text on stdin")
    if args.file is not None and args.prompt is not None:
        parser.error("a prompt and --file exclude each other")
    if args.file is None and (args.line is not None or args.column is not None):
        parser.error("--line and --column need --file")
    if args.line is None and args.column is not None:
        parser.error("--column needs --line")
    if args.file is not None and args.suffix is not None:
        parser.error("--suffix goes with a prompt; a file's own text behind the cursor is its suffix")
    if args.samples > 1 and args.temperature == 0:
        parser.error("-n above 1 at temperature 0 gives the same completion each time; add --temperature 0.8")
    return args


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def unescaped(text: str) -> str:
    for written, meant in (("\\\\", "\0"), ("\\n", "\n"), ("\\t", "\t"), ("\0", "\\")):
        text = text.replace(written, meant)
    return text


if __name__ == "__main__":
    main()
