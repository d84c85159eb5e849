"""Judge a checkpoint as a YAML says: `python eval/main.py yamls/quickstart/eval.yaml [key=value …]` (eval/README.md).

With `composer eval/main.py …` several processes share the prompts. The same command again goes on where it stopped.
`--self-test` (of the YAML's benchmarks) and `--sandbox-check` need no YAML.
"""

from codelm.errors import exit_on_error


@exit_on_error
def main() -> None:
    # It imports for a second, in which Ctrl-C must find its handler in place.
    from evaluating import run

    run()


if __name__ == "__main__":
    main()
