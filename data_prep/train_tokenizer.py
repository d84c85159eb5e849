"""Train the tokenizer of a corpus and stop there: `python data_prep/train_tokenizer.py FILE.yaml [key=value …]`.

Reads and filters the sources as `main.py` does; `main.py` with the same YAML continues from here.
"""

from codelm.errors import ConfigError, exit_on_error
from codelm.interruption import end_in_order_on_sigterm


@exit_on_error
def main() -> None:
    end_in_order_on_sigterm()
    # It imports for a second, in which Ctrl-C must find its handler in place.
    from progress import ProgressBars
    from report import print_survey

    from codelm.config.cli import parse_command_line
    from codelm.console import setup_logging
    from codelm.data.prepare import prepare_tokenizer
    from codelm.data.survey import survey

    command = parse_command_line(
        "data",
        description="Train the tokenizer of a corpus and stop; data_prep/main.py with the same YAML goes on.",
        prog="python data_prep/train_tokenizer.py",
    )
    setup_logging()
    if command.config.tokenizer.train is None:
        raise ConfigError(f"{command.path} names an existing tokenizer; give `tokenizer.train` to train one")
    if command.dry_run:
        with ProgressBars() as progress:
            surveyed = survey(command.config, progress)
        print_survey(surveyed, command.config)
        return
    with ProgressBars() as progress:
        tokenizer = prepare_tokenizer(command.config, progress)
    fingerprint = tokenizer.fingerprint()
    print(f"tokenizer {fingerprint.model_sha256[:12]} of {fingerprint.vocab_size:,} tokens: {tokenizer.path}")


if __name__ == "__main__":
    main()
