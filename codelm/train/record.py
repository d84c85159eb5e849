"""What `run.json` says of the run that left a checkpoint."""

import dataclasses
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from composer.utils import dist

import codelm
from codelm.config.train import TrainConfig
from codelm.model.lineage import lineage_of_run
from codelm.train.build import Pieces
from codelm.train.checkpoints.run_file import RUN_FORMAT, read_run
from codelm.train.hardware import hardware_here


def run_record(config: TrainConfig, pieces: Pieces, resume_from: Path | None) -> dict[str, Any]:
    """What `run.json` says of the run, besides the moment of the checkpoint.

    What the weights descend from is looked up once: when a run goes on, its load_path may be gone.
    """
    packages = ["torch", "transformers", "mosaicml", "sentencepiece", "lion-pytorch", "numpy"]
    identity = pieces.data.dataset.identity
    dumped = config.model_dump(mode="json")
    fresh = resume_from is None
    return {
        "format": RUN_FORMAT,
        "config": dumped,
        "lineage": [a.to_dict() for a in lineage_of_run(dumped)] if fresh else read_run(resume_from).get("lineage", []),
        "tokenizer": pieces.tokenizer.fingerprint().to_dict(),
        "data": {
            "manifest_hash": identity.manifest_hash,
            "mixture": identity.mixture,
            "stream": dataclasses.asdict(identity),
        },
        "world_size": dist.get_world_size(),
        "hardware": hardware_here(),
        "versions": {
            "codelm": codelm.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
    }
