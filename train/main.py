"""Train a model as a YAML says: `composer train/main.py yamls/x.yaml [key=value …]` (train/README.md)."""

from codelm.errors import exit_on_error


@exit_on_error
def main() -> None:
    # It imports for half a second, in which Ctrl-C must find its handler in place.
    from codelm.config.cli import parse_command_line
    from codelm.config.train import TrainConfig
    from codelm.console import announce, is_rank_zero, setup_logging
    from codelm.startup import many_imports

    command = parse_command_line("train", description="Pre-train, continue or fine-tune a code model with Composer.")
    assert isinstance(command.config, TrainConfig)
    setup_logging()

    # torch and Composer take seconds to import: only once the configuration is known to be good.
    with many_imports():
        from codelm.train.run import dry_run, train

    if command.dry_run:
        for line in dry_run(command.config):
            if is_rank_zero():
                print(line)
        return
    checkpoint = train(command.config)
    if is_rank_zero():
        # Training and export are neighbours that do not know each other.
        from codelm.export.checkpoint_card import leave_checkpoint_card
        from codelm.train.checkpoints.resume import METRICS_FILE
        from codelm.train.checkpoints.upload import upload_late
        from codelm.train.report.page import REPORT_FILE

        leave_checkpoint_card(checkpoint)
        if command.config.save_remote is not None:
            upload_late(command.config.save_remote, checkpoint, (METRICS_FILE, REPORT_FILE))
        announce(f"trained: {checkpoint}")


if __name__ == "__main__":
    main()
