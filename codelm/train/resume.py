"""Whether and from where a run goes on."""

from pathlib import Path

from codelm.config.train import TrainConfig
from codelm.errors import CheckpointError, ConfigError
from codelm.train.build import Pieces
from codelm.train.checkpoint import check_same_run, newest_checkpoint, read_run


def resume_point(config: TrainConfig, save_folder: Path) -> Path | None:
    if save_folder.exists() and not save_folder.is_dir():
        raise ConfigError(f"save_folder: {save_folder} is a file; name a folder")
    newest = newest_checkpoint(save_folder) if save_folder.is_dir() else None
    if newest is not None and not config.autoresume:
        raise CheckpointError(
            f"{save_folder} already holds {newest.name}; set autoresume=true to continue it,"
            " or choose another save_folder"
        )
    return newest


def check_continues(checkpoint: Path, config: TrainConfig, pieces: Pieces) -> None:
    """Refuse a checkpoint of another run before a model is built.

    Raises:
        CheckpointError: with the differences.
    """
    check_same_run(checkpoint, config.model_dump(mode="json"), pieces.tokenizer.fingerprint().to_dict())
    run = read_run(checkpoint)
    # A finished run is only reported; older records do not say more than what is also in the training state.
    if int(run["batch"]) < pieces.batches and "stream" in run["data"]:
        pieces.data.dataset.identity.check_continues(run["data"]["stream"])


def next_step(newest: Path | None, pieces: Pieces) -> str:
    if newest is None:
        return "start afresh"
    done = int(read_run(newest)["batch"]) >= pieces.batches
    return f"have nothing to do, {newest} is the end" if done else f"resume from {newest}"
