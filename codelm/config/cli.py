"""The command line that the three recipes share: `main.py FILE.yaml [OVER.yaml …] [key=value …]` and a few flags."""

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import codelm
from codelm.config.dump import resolved_yaml
from codelm.config.load import Kind, load_config
from codelm.config.schema_json import json_schema
from codelm.errors import ConfigError

_RECIPES: dict[str, tuple[str, str, list[str]]] = {
    "train": (
        "composer train/main.py",
        "Train or continue to train a code model as a YAML file says, and leave checkpoints that transformers can load."
        " The same command again continues an interrupted run.",
        ["yamls/quickstart/train.yaml", "yamls/quickstart/train.yaml optimizer.lr=1e-4 max_duration=200ba"],
    ),
    "data": (
        "python data_prep/main.py",
        "Turn folders or git repositories of source code into tokenised shards by language, as a YAML file says."
        " The same command again continues an interrupted preparation.",
        ["yamls/quickstart/data.yaml", "yamls/quickstart/data.yaml num_workers=4"],
    ),
    "eval": (
        "python eval/main.py",
        "Judge a checkpoint (of codelm, or any causal language model of transformers) as a YAML file says.",
        ["yamls/quickstart/eval.yaml", "yamls/quickstart/eval.yaml model.path=runs/mine/latest"],
    ),
}


@dataclass(frozen=True)
class Command:
    """What the user asked for. `config` is the validated configuration; `flags` holds every parsed flag."""

    config: Any
    path: str
    overrides: list[str]
    dry_run: bool
    flags: argparse.Namespace


def parse_command_line(
    kind: Kind,
    argv: list[str] | None = None,
    description: str | None = None,
    extra: Callable[[argparse.ArgumentParser], None] | None = None,
    prog: str | None = None,
) -> Command:
    """Read the command line and the YAML it names.

    `--help`, `--version`, `--schema` and `--print-config` print (rank 0 only) and end the process with code 0.
    `extra` may add the recipe's own flags to the parser; they come back in `flags`. `prog` is the recipe's command
    where it is not the main one of its kind.

    Raises:
        ConfigError: the command line or the YAML is wrong.
    """
    parser = _parser(kind, description, prog)
    if extra is not None:
        extra(parser)
    flags, unknown = parser.parse_known_intermixed_args(sys.argv[1:] if argv is None else argv)
    if unknown:
        raise ConfigError(_unknown_flag(unknown[0], parser))
    if flags.schema:
        _print_and_exit(json.dumps(json_schema(kind), indent=2, ensure_ascii=False))
    if flags.file is None:
        raise ConfigError(f"name a YAML file, such as: {parser.prog} {_RECIPES[kind][2][0]}")
    if "=" in flags.file and not Path(flags.file).exists():
        raise ConfigError(f"the YAML file comes first: {parser.prog} FILE.yaml {flags.file}")
    config = load_config(kind, flags.file, flags.overrides)
    if flags.print_config:
        origin = " ".join([flags.file, *flags.overrides]).replace("\n", " ")
        _print_and_exit(f"# resolved from {origin}\n{resolved_yaml(config)}".rstrip("\n"))
    return Command(config, flags.file, flags.overrides, flags.dry_run, flags)


class _Parser(argparse.ArgumentParser):
    """Reports faults as a `ConfigError`, and prints on rank 0 alone."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")

    def _print_message(self, message: str, file: Any = None) -> None:
        if _is_rank_zero():
            super()._print_message(message, file)


def _parser(kind: Kind, description: str | None, prog: str | None) -> _Parser:
    main_prog, about, examples = _RECIPES[kind]
    prog = prog or main_prog
    lines = "\n".join(f"  {prog} {example}" for example in examples)
    parser = _Parser(
        prog=prog,
        usage="%(prog)s FILE.yaml [OVER.yaml …] [key=value …] [--dry-run | --print-config | --schema]",
        description=textwrap.fill(description or about, 100),
        epilog=f"examples:\n{lines}\n  {prog} {examples[0]} --print-config\n\n"
        "Every key of the file is described by --schema; docs/configuration.md explains `extends:`, `${…}` and\n"
        "overrides. Exit code 2: the input is wrong; 1: the machine failed.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", nargs="?", metavar="FILE.yaml", help="what to run")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="values laid over the file, such as optimizer.lr=1e-4; and names of YAML files, laid over it before them",
    )
    parser.add_argument("--dry-run", action="store_true", help="check and build everything, say what would run, stop")
    parser.add_argument("--print-config", action="store_true", help="print the whole resolved configuration, stop")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of the file for editors, stop")
    parser.add_argument("--version", action="version", version=f"codelm {codelm.__version__}")
    return parser


def _unknown_flag(flag: str, parser: argparse.ArgumentParser) -> str:
    name = flag.lstrip("-")
    if "=" in name:
        return f"unknown option {flag}; a key of the configuration has no dashes: {name}"
    if flag in ("-n", "--nproc"):
        example = "composer -n 2 train/main.py FILE.yaml"
        return f"unknown option {flag}; composer's options stand before the recipe: {example}"
    return f"unknown option {flag}; see {parser.prog} --help"


def _is_rank_zero() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _print_and_exit(text: str) -> NoReturn:
    if _is_rank_zero():
        print(text)
    sys.exit(0)
