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
    with ProgressBars() as progress:
        if command.dry_run:
            print_survey(survey(command.config, progress), command.config)
        else:
            print_prepared(prepare(command.config, progress))


if __name__ == "__main__":
    main()
