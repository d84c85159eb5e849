"""Make a benchmark of a repository's own tests (docs/repository_benchmark.md):

    python eval/build_repo_benchmark.py REPOSITORY --python PATH/TO/venv/bin/python -o bench/

The same command again goes on where it stopped.
"""

from codelm.errors import exit_on_error
from codelm.interruption import end_in_order_on_sigterm


@exit_on_error
def main() -> None:
    end_in_order_on_sigterm()
    # It imports for a second, in which Ctrl-C must find its handler in place.
    from building import run

    run(__doc__)


if __name__ == "__main__":
    main()
