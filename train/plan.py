"""Predict a run's memory, speed, energy and cost without a GPU: `python train/plan.py yamls/x.yaml gpus=8 gpu=h100`.

Keys of the planner: gpu (a100-40gb, h100, …, or cpu: this machine), gpus, gpus_per_node, network (GB/s between nodes
for each GPU), price (dollars an hour for each GPU). All other key=value pairs are laid over the YAML. The data need not
be prepared. docs/planning.md says how it is computed, and how far it was off.
"""

import argparse
import json
import sys
from typing import Any

from codelm.errors import ConfigError, exit_on_error

_KEYS: dict[str, tuple[type, Any]] = {
    "gpu": (str, "a100-80gb"),
    "gpus": (int, 1),
    "gpus_per_node": (int, 8),
    "network": (float, 25.0),
    "price": (float, None),
}


@exit_on_error
def main() -> None:
    # It imports for half a second, in which Ctrl-C must find its handler in place.
    from codelm.config.cli import parse_command_line
    from codelm.config.train import TrainConfig
    from codelm.console import setup_logging
    from codelm.startup import many_imports

    own, rest = _split(sys.argv[1:])
    command = parse_command_line("train", rest, description=__doc__, extra=_flags, prog="python train/plan.py")
    assert isinstance(command.config, TrainConfig)
    setup_logging()

    # torch takes seconds to import: only once the input is known to be good.
    with many_imports():
        from plan_table import print_plan

        from codelm.train.planning.machine import CPU, gpus, processor
        from codelm.train.planning.plan import make_plan

    if own["gpu"] == CPU:
        from codelm.train.planning.process import training_process_bytes

        machine = processor(training_process_bytes(), own["price"])
    else:
        machine = gpus(own["gpu"], own["gpus"], own["gpus_per_node"], own["network"] * 1e9, own["price"])
    plan = make_plan(command.config, machine)
    if command.flags.json:
        print(json.dumps(plan.to_dict(), indent=2))
    else:
        print_plan(plan, command.config.run_name)


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the prediction as JSON")


def _split(arguments: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The planner's own keys, and everything else."""
    found = {name: default for name, (_, default) in _KEYS.items()}
    rest = []
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals or name not in _KEYS:
            rest.append(argument)
            continue
        kind = _KEYS[name][0]
        try:
            found[name] = kind(text)
        except ValueError:
            raise ConfigError(f"command line `{argument}`: {name} should be a number") from None
        if kind is not str and not found[name] > 0:
            raise ConfigError(f"command line `{argument}`: {name} should be above 0")
    return found, rest


if __name__ == "__main__":
    main()
