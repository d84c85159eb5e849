"""Compare evaluations, or checkpoints, with the first of them (docs/comparing.md):

    python eval/compare.py runs/base/eval runs/tuned/eval
    python eval/compare.py BASE TUNED --benchmarks repo,humaneval
    python eval/compare.py base=BASE tuned=TUNED --yaml yamls/eval/python.yaml -o runs/compared

Leaves compare.html (one page that needs nothing else), compare.md and compare.json. Checkpoints are evaluated first as
the YAML says, into the output folder; the same command again goes on where it stopped.
"""

from codelm.errors import exit_on_error
from codelm.interruption import end_in_order_on_sigterm


@exit_on_error
def main() -> None:
    end_in_order_on_sigterm()
    # It imports for a second, in which Ctrl-C must find its handler in place.
    from comparing import run

    run(__doc__)


if __name__ == "__main__":
    main()
