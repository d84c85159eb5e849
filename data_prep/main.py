"""Turn source code into tokenised shards: `python data_prep/main.py yamls/quickstart/data.yaml [key=value …]`.

The same command again continues an interrupted preparation, or finds the corpus finished and reuses it. With
`engine: slurm` it writes the job scripts; the jobs call it with `--stage`.
"""

from codelm.errors import exit_on_error
from codelm.interruption import end_in_order_on_sigterm


@exit_on_error
def main() -> None:
    end_in_order_on_sigterm()
    # It imports for a second, in which Ctrl-C must find its handler in place.
    from preparing import run

    run()


if __name__ == "__main__":
    main()
