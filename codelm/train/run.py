"""A training run from a validated configuration: build, resume, fit; or, dry, build everything and try it once."""

import dataclasses
import gc
import logging
import os
from collections.abc import Callable
from pathlib import Path

import torch
from composer import DataSpec, Trainer
from composer.loggers import LoggerDestination
from composer.utils import dist
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

from codelm.config.train import TrainConfig
from codelm.data.reading.gaps import Gaps
from codelm.errors import EnvironmentFailure
from codelm.tokenizer import Tokenizer
from codelm.train import composer_args, composer_compat
from codelm.train.adapters import check_base, has_adapters
from codelm.train.assemble import build_callbacks, check_beside
from codelm.train.board import Board, new_board
from codelm.train.build import Pieces, build_pieces, in_batches, plan
from codelm.train.callbacks.early_stopper import STOPPED_METRIC
from codelm.train.callbacks.heartbeat import Heartbeat
from codelm.train.callbacks.judging import CODE_EVAL_FOLDER, Judging, judge_the_rest
from codelm.train.callbacks.metrics_file import MetricsFile
from codelm.train.callbacks.rng import TrainingRng
from codelm.train.checkpoints.build import build_saver
from codelm.train.checkpoints.folder import newest_checkpoint
from codelm.train.checkpoints.lock import only_run_in
from codelm.train.checkpoints.newest_metrics import NewestMetrics
from codelm.train.checkpoints.remote import RemoteFolder
from codelm.train.checkpoints.resume import (
    METRICS_FILE,
    ResumeFrom,
    check_continues,
    next_step,
    resume_point,
    settle_resume_point,
)
from codelm.train.checkpoints.run_file import read_run
from codelm.train.compiled import check_compiler, compile_blocks
from codelm.train.composer_model import ComposerCausalLM, transformer_blocks
from codelm.train.flops import describe_model, model_costs
from codelm.train.forecast import configuration_lines, forecast_lines
from codelm.train.lifeline.lifeline import Lifeline
from codelm.train.loggers.build import build_loggers
from codelm.train.loggers.steadfast import ended_early
from codelm.train.models import build_model
from codelm.train.optim.build import build_optimizer, settings_kept
from codelm.train.parallel.activations import checkpoint_activations, offload_activations
from codelm.train.parallel.building import build_on_ranks
from codelm.train.parallel.fsdp import check_fsdp
from codelm.train.parallel.microbatch import RECORDED, find_microbatch_size, settled_microbatch_size
from codelm.train.rank_zero import entered_on_rank_zero, on_rank_zero
from codelm.train.report.page import leave_report
from codelm.train.roll_backs import RolledBack, roll_backs_of
from codelm.train.roll_backs import settle as settle_roll_backs

log = logging.getLogger(__name__)

# Rank 0 may generate and judge for long while the others wait at a barrier.
_PATIENCE_SECONDS = 3600.0


def train(config: TrainConfig) -> Path:
    """Train to max_duration, from the newest checkpoint in save_folder if there is one; return the last checkpoint.

    Raises:
        CodelmError: with one sentence, for anything wrong in the input.
    """
    # ALiBi makes far keys' weights denormal, which processors handle slowly: up to twice the time of a backward pass.
    torch.set_flush_denormal(True)
    try:
        while True:
            try:
                return _train(config)
            except RolledBack as rolled_back:
                log.warning("%s", rolled_back)
            # What the exception held is free from here on: two trainers would not fit.
            gc.collect()
            torch.cuda.empty_cache()
    finally:
        torch.set_flush_denormal(False)


def _train(config: TrainConfig) -> Path:
    composer_compat.apply()
    save_folder = Path(config.save_folder)
    check_fsdp(config, composer_args.device(config))
    resume_point(config, save_folder)
    remote = RemoteFolder(config.save_remote) if config.save_remote is not None else None
    try:
        save_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFailure(
            f"save_folder: {save_folder} cannot be made ({error.strerror}); name another"
        ) from None
    if not os.access(save_folder, os.W_OK):
        raise EnvironmentFailure(f"save_folder: {save_folder} cannot be written; make it writable or name another")
    dist.initialize_dist(composer_args.device(config), timeout=_PATIENCE_SECONDS)
    board = new_board()
    alone = entered_on_rank_zero(only_run_in(save_folder))
    loggers = build_loggers(config, save_folder)
    with ended_early(loggers), Lifeline(board, config.watchdog_seconds) as lifeline, alone:
        on_rank_zero(lambda: settle_roll_backs(save_folder))
        resume_from = settle_resume_point(config, save_folder, remote)
        try:
            return _train_from(resume_from, config, remote, loggers, board, lifeline)
        except RolledBack as rolled_back:
            number = lifeline.stops_instead()
            if number is None:
                raise
            log.warning("%s; the run ends here: run the same command again to go on from there", rolled_back)
            lifeline.leave_together()
            raise SystemExit(128 + number) from None


def _train_from(
    resume_from: Path | None,
    config: TrainConfig,
    remote: RemoteFolder | None,
    loggers: list[LoggerDestination],
    board: Board,
    lifeline: Lifeline,
) -> Path:
    save_folder = Path(config.save_folder)
    pieces = build_pieces(config, dist.get_global_rank(), dist.get_world_size())
    if resume_from is not None:
        check_continues(resume_from, config, pieces)
        done = int(read_run(resume_from)["batch"])
        if done >= pieces.batches:
            log.info("%s already has %d batches; raise max_duration to train on", resume_from, done)
            on_rank_zero(lambda: _make_up(config, done))
            return resume_from
        if config.callbacks.early_stopper is not None and read_run(resume_from).get("metrics", {}).get(STOPPED_METRIC):
            log.info("%s is where the run stopped early; leave callbacks.early_stopper out to train on", resume_from)
            on_rank_zero(lambda: _make_up(config, done))
            return resume_from
        log.info("resuming from %s", resume_from)
    roll_backs = on_rank_zero(lambda: roll_backs_of(save_folder, resume_from))
    pieces.data.dataset.gaps = Gaps.of(roll_back.left_out for roll_back in roll_backs)
    benchmarks = check_beside(config, pieces)
    for line in [*configuration_lines(config), *plan(config, pieces), *forecast_lines(config, pieces)]:
        log.info("%s", line)

    # A checkpoint's weights replace those of load_path, which may be gone by then; adapters stay on theirs.
    replaced = resume_from is not None and config.model.peft_config is None
    first_weights = config.model_copy(update={"load_path": None}) if replaced else config
    model = _composer_model(first_weights, pieces, build_on_ranks)
    if resume_from is not None and has_adapters(model.model):
        on_rank_zero(lambda: check_base(model.model, resume_from))
    if config.compile is not None:
        compile_blocks(transformer_blocks(model.model), composer_args.device(config))
    costs = model_costs(model.model, config.max_seq_len)
    log.info("%s", describe_model(type(model.model).__name__, costs))
    if not model.masks_documents:
        log.warning("%s cannot mask packed documents from each other", type(model.model).__name__)
    per_epoch = len(pieces.data.dataset)
    eval_every = pieces.batches if config.eval_interval is None else in_batches(config.eval_interval, config, per_epoch)
    metrics = NewestMetrics()
    saver = build_saver(config, pieces, resume_from, remote, metrics, board, lifeline)
    microbatch_size = settled_microbatch_size(config, resume_from and read_run(resume_from))
    rng = TrainingRng()
    resume = [] if resume_from is None else [ResumeFrom(resume_from, rng)]
    optimizer = build_optimizer(config.optimizer, model)
    keep_settings = settings_kept(optimizer)
    callbacks = build_callbacks(config, pieces, benchmarks, costs, saver, roll_backs, lifeline.progress.move)
    trainer = Trainer(
        model=model,
        optimizers=optimizer,
        schedulers=LambdaLR(optimizer, pieces.learning_rate),
        step_schedulers_every_batch=True,
        train_dataloader=DataSpec(pieces.train_loader, get_num_tokens_in_batch=composer_args.count_tokens),
        eval_dataloader=composer_args.evaluators(pieces.eval_loaders),
        eval_interval=composer_args.every(eval_every),
        max_duration=f"{pieces.batches}ba",
        device_train_microbatch_size=microbatch_size or 1,
        accumulate_train_batch_on_tokens=True,
        precision=composer_args.precision(config),
        device=composer_args.device(config),
        parallelism_config=composer_args.parallelism(config),
        callbacks=[Heartbeat(lifeline), rng, *resume, *callbacks, saver],
        loggers=[metrics, *loggers],
        spin_dataloaders=False,
        progress_bar=False,
        run_name=config.run_name,
        seed=config.seed,
        dist_timeout=_PATIENCE_SECONDS,
    )
    if resume_from is not None:
        keep_settings(trainer.state.schedulers)
    if microbatch_size is None:
        device_batch = config.global_train_batch_size // dist.get_world_size()
        microbatch_size = find_microbatch_size(trainer.state, model, device_batch, config.max_seq_len)
        trainer.state.device_train_microbatch_size = microbatch_size
    saver.settings.run[RECORDED] = microbatch_size
    saver.settings.run["roll_backs"] = [dataclasses.asdict(roll_back) for roll_back in roll_backs]
    if config.eval_first and resume_from is None and pieces.eval_loaders:
        trainer.eval()
    try:
        trainer.fit()
    except RolledBack:
        trainer.close()
        raise
    trainer.close()
    if dist.get_global_rank() == 0:
        leave_report(save_folder)
    final = newest_checkpoint(save_folder)
    assert final is not None
    return final


def _make_up(config: TrainConfig, batch: int) -> None:
    """What comes after the last checkpoint, where the run was killed before it was done."""
    save_folder, evaluation = Path(config.save_folder), config.callbacks.code_eval
    if evaluation is not None:
        judging = Judging(save_folder / CODE_EVAL_FOLDER, evaluation.sandbox)
        judge_the_rest(judging, MetricsFile(save_folder / METRICS_FILE), batch)
    leave_report(save_folder)


def dry_run(config: TrainConfig) -> list[str]:
    """Build everything, make one forward pass, write nothing; return what a run would do, a line each."""
    composer_compat.apply()
    save_folder = Path(config.save_folder)
    newest = resume_point(config, save_folder)
    device, precision = composer_args.device(config), composer_args.precision(config)
    check_fsdp(config, device)
    pieces = build_pieces(config, dist.get_global_rank(), dist.get_world_size())
    if newest is not None:
        check_continues(newest, config, pieces)
    if config.save_remote is not None:
        RemoteFolder(config.save_remote)
    check_beside(config, pieces)
    if config.compile is not None and device == "cpu":
        check_compiler()
    model = _composer_model(config, pieces, build_model)
    build_optimizer(config.optimizer, model)
    sample = {key: value[:1] for key, value in next(iter(pieces.train_loader)).items()}
    with torch.no_grad():
        loss = float(model.loss(model(sample), sample))
    sets = ", ".join(f"{label} ({len(loader.dataset)})" for label, loader in pieces.eval_loaders.items())  # pyright: ignore
    return [
        *plan(config, pieces),
        f"{type(model.model).__name__}: {model.model.num_parameters():,} parameters on {device} in {precision.value};"
        f" loss of one sample before training {loss:.3f}",
        *forecast_lines(config, pieces, largest=True),
        f"validation samples: {sets or 'none'}",
        f"would {next_step(newest, pieces)}; checkpoints go to {save_folder} every {config.save_interval}",
    ]


def _composer_model(
    config: TrainConfig, pieces: Pieces, build: Callable[[TrainConfig, Tokenizer], PreTrainedModel]
) -> ComposerCausalLM:
    model = build(config, pieces.tokenizer)
    blocks = transformer_blocks(model)
    if config.activation_checkpointing is not None:
        checkpoint_activations(model, blocks, config.activation_checkpointing)
    if config.fsdp_config is not None and config.fsdp_config.activation_cpu_offload:
        offload_activations(blocks)
    return ComposerCausalLM(model, torch.from_numpy(pieces.tokenizer.token_bytes()))
