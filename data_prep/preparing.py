"""What `main.py` does once everything is imported: read the command line, then explain, survey or prepare."""

import argparse
import re
from pathlib import Path

from progress import ProgressBars
from report import print_explanation, print_prepared, print_survey

from codelm.config.cli import Command, parse_command_line
from codelm.console import setup_logging
from codelm.data.engines.slurm import write_scripts
from codelm.data.explain import explain_file
from codelm.data.prepare import STAGES, prepare, prepare_stage
from codelm.data.survey import survey
from codelm.errors import ConfigError


def run() -> None:
    command = parse_command_line("data", extra=add_flags)
    setup_logging()
    if command.flags.shard is not None and command.flags.stage is None:
        raise ConfigError(f"--shard {command.flags.shard} is a part of one stage; name it with --stage")
    if command.flags.explain is not None:
        for file in command.flags.explain:
            print_explanation(explain_file(file, command.config))
    elif command.dry_run:
        with ProgressBars() as progress:
            surveyed = survey(command.config, progress)
        print_survey(surveyed, command.config)
    elif command.flags.stage is not None:
        shard, shards = shard_of(command.flags.shard or "0/1")
        with ProgressBars() as progress:
            prepare_stage(command.config, command.flags.stage, shard, shards, progress)
    elif command.config.engine == "slurm":
        print_jobs(command)
    else:
        with ProgressBars() as progress:
            prepared = prepare(command.config, progress)
        print_prepared(prepared)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--explain", metavar="FILE", action="append", help="say which rules would keep or drop this file, stop"
    )
    parser.add_argument("--stage", choices=STAGES, help="one stage alone, as a job of a cluster")
    parser.add_argument("--shard", metavar="i/n", help="with --stage: part i (from 0) of n")


def shard_of(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not int(match[1]) < int(match[2]):
        raise ConfigError(f"--shard {text}: write the number of the part, from 0, and how many there are, such as 3/16")
    return int(match[1]), int(match[2])


def print_jobs(command: Command) -> None:
    config = command.config
    folder = Path(f"{config.output_folder}.slurm")
    arguments = [str(Path(command.path).resolve()), *command.overrides]
    script = write_scripts(folder, config.run_name, Path(__file__).with_name("main.py"), arguments, config.num_workers)
    print(f"wrote {folder}; submit the jobs with: {script} [options of sbatch]")
