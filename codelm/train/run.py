"""A training run from a validated configuration: build, resume, fit; or, dry, build everything and try it once."""

import logging
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from composer import Algorithm, Callback, DataSpec, Evaluator, Event, Time, TimeUnit, Trainer
from composer.algorithms import GradientClipping
from composer.core import Precision
from composer.loggers import LoggerDestination, TensorboardLogger, WandBLogger
from composer.utils import dist, get_device
from composer.utils.misc import create_interval_scheduler
from composer.utils.parallelism import FSDP2Config
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

import codelm
from codelm.config.train import TrainConfig
from codelm.data.mixture import implied_epochs
from codelm.errors import CheckpointError, ConfigError
from codelm.tokenizer import Tokenizer
from codelm.train import composer_compat
from codelm.train.build import (
    TrainingData,
    build_eval_loaders,
    build_model,
    build_tokenizer,
    build_train_loader,
    build_training_data,
    in_batches,
)
from codelm.train.callbacks.code_eval import CodeEval
from codelm.train.callbacks.guard import NonFiniteGuard
from codelm.train.callbacks.metrics_file import MetricsFile
from codelm.train.callbacks.progress import Progress, tokens_in
from codelm.train.callbacks.rng import TrainingRng
from codelm.train.checkpoint import (
    CheckpointSaver,
    check_same_model,
    composer_load_path,
    newest_checkpoint,
    read_run,
)
from codelm.train.composer_model import Batch, ComposerCausalLM
from codelm.train.optim import build_optimizer, build_scheduler

log = logging.getLogger(__name__)

# Rank 0 may generate and judge for long while the others wait at a barrier.
_PATIENCE_SECONDS = 3600.0
# The last evaluation comes before the last checkpoint, so that a kill between them loses neither.
_LAST_EVENTS = {Event.BATCH_END}


@dataclass(frozen=True)
class Pieces:
    """Everything a run is made of, before a Trainer exists."""

    tokenizer: Tokenizer
    data: TrainingData
    train_loader: DataLoader
    eval_loaders: dict[str, DataLoader]
    batches: int
    """The optimizer steps of the whole run."""


def build_pieces(config: TrainConfig) -> Pieces:
    """Open and check all that the configuration names, for this rank."""
    tokenizer = build_tokenizer(config)
    data = build_training_data(config, tokenizer)
    rank, world_size = dist.get_global_rank(), dist.get_world_size()
    return Pieces(
        tokenizer=tokenizer,
        data=data,
        train_loader=build_train_loader(config, data, tokenizer, rank, world_size),
        eval_loaders=build_eval_loaders(config, tokenizer, rank, world_size),
        batches=in_batches(config.max_duration, config, len(data.dataset)),
    )


def train(config: TrainConfig) -> Path:
    """Train to max_duration, from the newest checkpoint in save_folder if there is one; return the last checkpoint.

    Raises:
        CodelmError: with one sentence, for anything wrong in the input.
    """
    composer_compat.apply()
    save_folder = Path(config.save_folder)
    resume_from = _resume_point(config, save_folder)
    dist.initialize_dist(_device(config), timeout=_PATIENCE_SECONDS)
    pieces = build_pieces(config)
    if resume_from is not None:
        check_same_model(resume_from, config.model_dump(mode="json")["model"], pieces.tokenizer.fingerprint().to_dict())
        done = int(read_run(resume_from)["batch"])
        if done >= pieces.batches:
            log.info("%s already has %d batches; raise max_duration to train on", resume_from, done)
            return resume_from
        log.info("resuming from %s", resume_from)
    _log_plan(config, pieces)

    model = ComposerCausalLM(build_model(config, pieces.tokenizer), torch.from_numpy(pieces.tokenizer.token_bytes()))
    if not model.masks_documents:
        log.warning("%s cannot mask packed documents from each other", type(model.model).__name__)
    log.info("%s: %s parameters", type(model.model).__name__, f"{model.model.num_parameters():,}")
    saver = CheckpointSaver(
        save_folder,
        _interval(config.save_interval, config, pieces),
        config.save_num_checkpoints_to_keep,
        pieces.tokenizer.path,
        run_record(config, pieces),
    )
    rng = TrainingRng()
    trainer = Trainer(
        model=model,
        optimizers=build_optimizer(config.optimizer, model),
        schedulers=build_scheduler(config.scheduler, _warmup(config, pieces)),
        algorithms=_algorithms(config),
        train_dataloader=DataSpec(pieces.train_loader, get_num_tokens_in_batch=count_tokens),
        eval_dataloader=_evaluators(pieces.eval_loaders),
        eval_interval=_eval_interval(config, pieces),
        max_duration=f"{pieces.batches}ba",
        device_train_microbatch_size=min(
            config.device_train_microbatch_size, config.global_train_batch_size // dist.get_world_size()
        ),
        accumulate_train_batch_on_tokens=True,
        precision=_precision(config),
        device=_device(config),
        parallelism_config=_parallelism(config),
        callbacks=[rng, NonFiniteGuard(), Progress(pieces.batches), *_code_eval(config, pieces), saver],
        loggers=_loggers(config, save_folder),
        load_path=None if resume_from is None else composer_load_path(resume_from, _saves_sharded(config)),
        load_progress_bar=False,
        spin_dataloaders=False,
        progress_bar=False,
        run_name=config.run_name,
        seed=config.seed,
        dist_timeout=_PATIENCE_SECONDS,
    )
    rng.restore = composer_compat.restore_rng(trainer)
    if config.eval_first and resume_from is None:
        trainer.eval()
    trainer.fit()
    trainer.close()
    final = newest_checkpoint(save_folder)
    assert final is not None
    return final


def run_record(config: TrainConfig, pieces: Pieces) -> dict[str, Any]:
    """What `run.json` says of the run, besides the moment of the checkpoint."""
    packages = ["torch", "transformers", "mosaicml", "sentencepiece", "lion-pytorch", "numpy"]
    return {
        "format": 1,
        "config": config.model_dump(mode="json"),
        "tokenizer": pieces.tokenizer.fingerprint().to_dict(),
        "data": {"manifest_hash": pieces.data.manifest.hash, "mixture": asdict(pieces.data.dataset.identity)["mixture"]},
        "world_size": dist.get_world_size(),
        "versions": {
            "codelm": codelm.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
    }


def count_tokens(batch: Batch) -> dict[str, int]:
    """Composer weighs microbatches and ranks by the tokens that are predicted: labels[t] is predicted from t - 1."""
    return {"total": tokens_in(batch), "loss_generating": int((batch["labels"][:, 1:] != -100).sum())}


def _resume_point(config: TrainConfig, save_folder: Path) -> Path | None:
    newest = newest_checkpoint(save_folder) if save_folder.is_dir() else None
    if newest is not None and not config.autoresume:
        raise CheckpointError(
            f"{save_folder} already holds {newest.name}; set autoresume=true to continue it, or choose another save_folder"
        )
    save_folder.mkdir(parents=True, exist_ok=True)
    return newest


def _device(config: TrainConfig) -> str:
    if config.device == "gpu" and not torch.cuda.is_available():
        raise ConfigError("device is gpu, but torch sees no CUDA device here; set device=cpu or device=auto")
    if config.device == "auto":
        return "gpu" if torch.cuda.is_available() else "cpu"
    return config.device


def _precision(config: TrainConfig) -> Precision:
    gpu = _device(config) == "gpu"
    if config.precision == "amp_bf16" and not gpu:
        raise ConfigError("precision amp_bf16 needs a GPU; set precision=fp32 or precision=auto")
    if config.precision == "auto":
        return Precision.AMP_BF16 if gpu else Precision.FP32
    return Precision(config.precision)


def _saves_sharded(config: TrainConfig) -> bool:
    return config.fsdp_config is not None and config.fsdp_config.state_dict_type == "sharded"


def _parallelism(config: TrainConfig) -> dict[str, Any] | None:
    if config.fsdp_config is None:
        return None
    section = config.fsdp_config
    fsdp = FSDP2Config(reshard_after_forward=section.reshard_after_forward, state_dict_type=section.state_dict_type)
    # Under the key "fsdp2" Composer ignores it and trains unsharded.
    return {"fsdp": fsdp}


def _algorithms(config: TrainConfig) -> list[Algorithm]:
    clipping = config.algorithms.gradient_clipping
    if clipping is None:
        return []
    return [GradientClipping(clipping_type=clipping.clipping_type, clipping_threshold=clipping.clipping_threshold)]


def _interval(duration: str, config: TrainConfig, pieces: Pieces) -> str:
    return f"{in_batches(duration, config, len(pieces.data.dataset))}ba"


def _warmup(config: TrainConfig, pieces: Pieces) -> Time:
    batches = in_batches(config.scheduler.t_warmup, config, len(pieces.data.dataset))
    return Time(batches, TimeUnit.BATCH)


def _eval_interval(config: TrainConfig, pieces: Pieces) -> Any:
    # Longer than the run: evaluated at its end only.
    interval = f"{pieces.batches + 1}ba" if config.eval_interval is None else _interval(config.eval_interval, config, pieces)
    return create_interval_scheduler(interval, checkpoint_events=False, final_events=_LAST_EVENTS)


def _evaluators(loaders: dict[str, DataLoader]) -> list[Evaluator]:
    return [
        Evaluator(label=label, dataloader=DataSpec(loader, get_num_tokens_in_batch=count_tokens))
        for label, loader in loaders.items()
    ]


def _code_eval(config: TrainConfig, pieces: Pieces) -> list[Callback]:
    section = config.callbacks.code_eval
    if section is None:
        return []
    in_ba = section.model_copy(update={"interval": _interval(section.interval, config, pieces)})

    def fresh_model() -> PreTrainedModel:
        return build_model(config.model_copy(update={"load_path": None}), pieces.tokenizer)

    return [CodeEval(in_ba, pieces.tokenizer, config.seed, fresh_model)]


def _loggers(config: TrainConfig, save_folder: Path) -> list[LoggerDestination]:
    loggers: list[LoggerDestination] = [MetricsFile(save_folder / "metrics.jsonl")]
    if config.loggers.tensorboard is not None:
        loggers.append(TensorboardLogger(log_dir=config.loggers.tensorboard.log_dir or str(save_folder / "tensorboard")))
    if config.loggers.wandb is not None:
        section = config.loggers.wandb
        loggers.append(WandBLogger(section.project, entity=section.entity, name=config.run_name, tags=section.tags))
    return loggers


def plan(config: TrainConfig, pieces: Pieces) -> list[str]:
    """What the run will do, a line each: length, batches, mixture with implied epochs."""
    samples = pieces.batches * config.global_train_batch_size
    data = pieces.data
    epochs = implied_epochs(data.schedule, data.samples, samples)
    lines = [
        f"{pieces.batches:,} batches of {config.global_train_batch_size} samples of {config.max_seq_len} tokens:"
        f" {samples * config.max_seq_len:,} tokens on {dist.get_world_size()} rank(s)",
        "mixture (share, implied epochs): "
        + ", ".join(
            f"{language} {share:.1%} ×{epochs[language]:.2g}"
            for language, share in sorted(data.dataset.identity.mixture.items(), key=lambda item: -item[1])
        ),
    ]
    often = [language for language, count in epochs.items() if count > 4]
    if often:
        lines.append(f"warning: more than 4 passes over {', '.join(often)}; gain little beyond that")
    return lines


def _log_plan(config: TrainConfig, pieces: Pieces) -> None:
    for line in plan(config, pieces):
        log.info("%s", line)


def dry_run(config: TrainConfig) -> list[str]:
    """Build everything, make one forward pass, write nothing; return what a run would do, a line each."""
    composer_compat.apply()
    save_folder = Path(config.save_folder)
    newest = newest_checkpoint(save_folder) if save_folder.is_dir() else None
    pieces = build_pieces(config)
    _device(config), _precision(config), _parallelism(config)
    model = ComposerCausalLM(build_model(config, pieces.tokenizer), torch.from_numpy(pieces.tokenizer.token_bytes()))
    build_optimizer(config.optimizer, model)
    batch = next(iter(pieces.train_loader))
    one = {key: value[:1] for key, value in batch.items()}
    with torch.no_grad():
        loss = float(model.loss(model(one), one))
    return [
        *plan(config, pieces),
        f"{type(model.model).__name__}: {model.model.num_parameters():,} parameters;"
        f" loss of one sample before training {loss:.3f}",
        f"validation: {', '.join(f'{label} ({len(loader.dataset)})' for label, loader in pieces.eval_loaders.items()) or 'none'}",  # pyright: ignore
        f"would {'resume from ' + str(newest) if newest else 'start'} and save to {save_folder} every {config.save_interval}",
    ]
