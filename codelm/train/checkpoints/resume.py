"""Whether and from where a run goes on."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from composer import Callback, Logger, State

from codelm.config.train import TrainConfig
from codelm.errors import CheckpointError, CodelmError, ConfigError, EnvironmentFailure
from codelm.train.build import Pieces
from codelm.train.callbacks.rng import TrainingRng
from codelm.train.checkpoints.folder import checkpoints, set_aside, tidy
from codelm.train.checkpoints.hashes import damage
from codelm.train.checkpoints.remote import RemoteFolder
from codelm.train.checkpoints.run_file import changes, check_same_run, read_run
from codelm.train.checkpoints.training_state import restore
from codelm.train.rank_zero import on_rank_zero

log = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"


def resume_point(config: TrainConfig, save_folder: Path) -> Path | None:
    """The checkpoint that a run would go on from, as far as names and sizes tell; nothing is changed.

    Raises:
        ConfigError, CheckpointError: the folder cannot be used.
    """
    if save_folder.exists() and not save_folder.is_dir():
        raise ConfigError(f"save_folder: {save_folder} is a file; name a folder")
    found = checkpoints(save_folder) if save_folder.is_dir() else []
    if found and not config.autoresume:
        raise CheckpointError(
            f"{save_folder} already holds {found[-1].name}; set autoresume=true to continue it,"
            " or choose another save_folder"
        )
    return next((path for path in reversed(found) if damage(path, deep=False) is None), None)


def settle_resume_point(config: TrainConfig, save_folder: Path, remote: RemoteFolder | None) -> Path | None:
    """The newest whole checkpoint, its hashes checked; on the way there, undo what a kill left behind.

    Every rank must call; rank 0 looks, sets torn checkpoints aside, and takes the newest of `save_remote` where the
    folder has none.

    Raises:
        CheckpointError: there are checkpoints, and none of them is whole, or `autoresume` is off and `save_remote` has
            some.
    """

    def settle() -> Path | None:
        tidy(save_folder)
        found = checkpoints(save_folder)
        if not found and remote is not None:
            with _reaching(remote):
                return _downloaded(save_folder, remote, config.autoresume)
        whole = _newest_whole(found)
        tidy(save_folder)
        return whole

    return on_rank_zero(settle)


@contextlib.contextmanager
def _reaching(remote: RemoteFolder) -> Iterator[None]:
    try:
        yield
    except CodelmError:
        raise
    except Exception as error:  # each store's driver has errors of its own
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise EnvironmentFailure(
            f"save_remote: {remote.url} cannot be read ({reason}); repair it, or leave save_remote out to start without"
        ) from error


def _downloaded(save_folder: Path, remote: RemoteFolder, autoresume: bool) -> Path | None:
    if not autoresume:
        # Its checkpoints would be replaced by this run's, and removed by its policy.
        if held := remote.whole_checkpoints():
            raise CheckpointError(
                f"save_remote: {remote.url} already holds {held[-1]}; set autoresume=true to continue it, or choose"
                " another URL"
            )
        return None
    checkpoint = remote.download_newest(save_folder)
    if checkpoint is not None:
        remote.download_file(save_folder / METRICS_FILE)
        log.info("downloaded %s from %s", checkpoint.name, remote.url)
        tidy(save_folder)
    return checkpoint


def _newest_whole(found: list[Path]) -> Path | None:
    for checkpoint in reversed(found):
        problem = damage(checkpoint)
        if problem is None:
            return checkpoint
        place = set_aside(checkpoint)
        log.warning("%s is torn (%s): it is now %s, and the one before it is used", checkpoint, problem, place.name)
    if found:
        raise CheckpointError(
            f"none of the checkpoints in {found[-1].parent} was whole: they are set aside as torn-…; restore one under"
            " its name, or run the same command again to start afresh"
        )
    return None


def check_continues(checkpoint: Path, config: TrainConfig, pieces: Pieces) -> None:
    """Refuse a checkpoint of another run before a model is built.

    Raises:
        CheckpointError: with the differences.
    """
    now = config.model_dump(mode="json")
    check_same_run(checkpoint, now, pieces.tokenizer.fingerprint().to_dict())
    run = read_run(checkpoint)
    # A finished run is only reported; older records do not say more than what is also in the training state.
    if int(run["batch"]) < pieces.batches and "stream" in run["data"]:
        pieces.data.dataset.identity.check_continues(run["data"]["stream"])
    if different := changes(run, now):
        log.info("other settings than %s was saved with: %s", checkpoint.name, "; ".join(different))
    if config.load_path not in (None, run["config"].get("load_path")) and config.model.peft_config is None:
        log.warning(
            "load_path has no say where a run goes on: the weights are those of %s; start from others in another"
            " save_folder",
            checkpoint,
        )


def next_step(newest: Path | None, pieces: Pieces) -> str:
    """What a run would do, as the end of a sentence."""
    if newest is None:
        return "start afresh"
    done = int(read_run(newest)["batch"]) >= pieces.batches
    return f"have nothing to do, {newest} is the end" if done else f"resume from {newest}"


class ResumeFrom(Callback):
    """Sets the run back to a checkpoint once Composer has built everything, before it wraps the model in DDP."""

    def __init__(self, checkpoint: Path, rng: TrainingRng) -> None:
        self.checkpoint = checkpoint
        self.rng = rng

    def before_load(self, state: State, logger: Logger) -> None:
        self.rng.restore = restore(state, self.checkpoint)
