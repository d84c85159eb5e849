"""Turn source code into tokenised shards: `python data_prep/main.py yamls/quickstart/data.yaml [key=value …]`.

The same command again continues an interrupted preparation, or finds the corpus finished and reuses it.
"""

from progress import ProgressBars
from report import print_prepared, print_survey

from codelm.config.cli import parse_command_line
from codelm.console import setup_logging
from codelm.data.prepare import prepare, survey
from codelm.errors import exit_on_error


@exit_on_error
def main() -> None:
    command = parse_command_line("data")
    setup_logging()
    if command.dry_run:
        with ProgressBars() as progress:
            surveyed = survey(command.config, progress)
        print_survey(surveyed, command.config)
        return
    with ProgressBars() as progress:
        prepared = prepare(command.config, progress)
    print_prepared(prepared)


if __name__ == "__main__":
    main()
