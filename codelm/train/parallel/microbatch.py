"""`device_train_microbatch_size: auto`: the size that trains fastest and fits, found before the first step.

Composer's own search runs on GPUs and never with FSDP2. Here every rank makes forward and backward passes over made-up
samples of ever more rows until one is slower than the best, or the next would not fit by what the last one took. So
memory does not run out: under FSDP a rank that fails alone would leave the others waiting for it. All ranks decide from
the same figures. Weights, optimizer, random numbers and data are afterwards as they were.
"""

import contextlib
import gc
import logging
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from composer import State
from composer.core import precision
from composer.utils import dist, reproducibility
from torch import nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from codelm.config.train import TrainConfig
from codelm.errors import EnvironmentFailure
from codelm.train.composer_model import ComposerCausalLM
from codelm.train.parallel.memory import GpuMemory, HostMemory, Memory

log = logging.getLogger(__name__)

RECORDED = "device_train_microbatch_size"
"""Where a checkpoint's `run.json` says which size it was trained with."""

_TIMED_PASSES = 2
_SLOWER = 0.97
_PATIENCE_SECONDS = 120.0
_GROWTH = 1.5


@dataclass(frozen=True)
class Trial:
    """What a pass over `size` samples took, at most over the ranks."""

    size: int
    seconds: float
    resting: float
    """Bytes held between passes: weights, gradients, and what else the process has."""
    peak: float

    def peak_of(self, size: int) -> float:
        """Activations grow with the samples."""
        return self.resting + (self.peak - self.resting) * size / self.size


def candidates(device_batch: int) -> list[int]:
    """Divisors of a device's batch from 1 up, each at least 1.5 times the one before."""
    found = [1]
    for size in range(2, device_batch + 1):
        if device_batch % size == 0 and size >= _GROWTH * found[-1]:
            found.append(size)
    return found


def fastest(sizes: list[int], attempt: Callable[[int], Trial | None], limit: float) -> int:
    """The size with the most samples a second of those that fit.

    Args:
        attempt: tries a size; None when memory ran out.
        limit: bytes that the process may hold.

    Raises:
        EnvironmentFailure: not one sample fits.
    """
    trials: list[Trial] = []
    spent = 0.0
    for size in sizes:
        if trials and (reason := _why_not(size, trials, spent, limit)):
            log.info("microbatches of %d samples are not tried: %s", size, reason)
            break
        trial = attempt(size)
        if trial is None:
            break
        spent += (_TIMED_PASSES + 1) * trial.seconds
        log.info(
            "microbatches of %d samples: %.2f samples/s, %.2f GiB of %.2f GiB",
            size,
            size / trial.seconds,
            trial.peak / 2**30,
            limit / 2**30,
        )
        trials.append(trial)
        if trial.size / trial.seconds < _SLOWER * max(other.size / other.seconds for other in trials):
            break
    if not trials:
        raise EnvironmentFailure(
            "device_train_microbatch_size: not even one sample fits in memory; set activation_checkpointing=true, shard"
            " over more ranks with fsdp_config={}, or take a shorter max_seq_len"
        )
    return max(trials, key=lambda trial: trial.size / trial.seconds).size


def settled_microbatch_size(config: TrainConfig, before: dict[str, Any] | None) -> int | None:
    """The size that is written in the configuration, or was found by the run before; None when it is to be found.

    Args:
        before: the `run.json` of the checkpoint that the run resumes from.
    """
    size = config.device_train_microbatch_size
    if size == "auto":
        size = (before or {}).get(RECORDED)
    return size and min(size, config.global_train_batch_size // dist.get_world_size())


def find_microbatch_size(state: State, model: ComposerCausalLM, device_batch: int, max_seq_len: int) -> int:
    """Search on the model as it will train, wrapped and placed; every rank must call, and gets the same answer.

    Args:
        device_batch: samples of a device in an optimizer step.

    Raises:
        EnvironmentFailure: not one sample fits.
    """
    memory: Memory = GpuMemory() if torch.cuda.is_available() and state.device.name == "gpu" else HostMemory()
    limit = -_largest([-float(memory.limit() - sum(map(_state_to_come, state.optimizers)))])[0]

    def attempt(size: int) -> Trial | None:
        batch = state.device.batch_to_device(_made_up(size, max_seq_len, model.model.config.vocab_size))
        return _agreed(_try(state, model, batch, memory), size, state.model)

    with _left_as_it_was(state):
        size = fastest(candidates(device_batch), attempt, limit)
    log.info("device_train_microbatch_size: auto is %d", size)
    return size


def _why_not(size: int, trials: list[Trial], spent: float, limit: float) -> str:
    last = trials[-1]
    if last.peak_of(size) > limit:
        return f"they would take {last.peak_of(size) / 2**30:.2f} GiB of {limit / 2**30:.2f} GiB"
    if spent + (_TIMED_PASSES + 1) * last.seconds * size / last.size > _PATIENCE_SECONDS:
        return f"the search would last longer than {_PATIENCE_SECONDS:.0f} s"
    return ""


def _try(state: State, model: ComposerCausalLM, batch: dict[str, torch.Tensor], memory: Memory) -> list[float] | None:
    """Seconds, resting and peak bytes of a pass on this rank; None when memory ran out."""
    try:
        # The first pass leaves gradients, which are there in all later microbatches of a step.
        _one_pass(state, model, batch)
        gc.collect()
        resting = memory.held()
        memory.reset_peak()
        seconds = min(_one_pass(state, model, batch) for _ in range(_TIMED_PASSES))
        return [seconds, float(resting), float(max(memory.peak(), resting))]
    except torch.cuda.OutOfMemoryError:
        return None
    finally:
        for parameter in state.model.parameters():
            parameter.grad = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _one_pass(state: State, model: ComposerCausalLM, batch: dict[str, torch.Tensor]) -> float:
    _finish()
    began = time.perf_counter()
    # DDP would reduce gradients, and settle its buckets, with the first pass that it sees.
    unreduced = state.model.no_sync() if isinstance(state.model, DistributedDataParallel) else contextlib.nullcontext()
    with unreduced:
        with precision.get_precision_context(state.precision, state.precision_config):
            loss = model.loss(state.model(batch), batch)
        loss.backward()
    _finish()
    return time.perf_counter() - began


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _agreed(found: list[float] | None, size: int, model: nn.Module) -> Trial | None:
    if found is None and dist.get_world_size() > 1 and _is_sharded(model):
        raise EnvironmentFailure(
            f"device_train_microbatch_size: auto ran out of memory at {size} samples on rank {dist.get_global_rank()};"
            f" set device_train_microbatch_size={max(1, size // 2)}"
        )
    failed, seconds, resting, peak = _largest([float(found is None), *(found or [0.0, 0.0, 0.0])])
    return None if failed else Trial(size, seconds, resting, peak)


def _largest(values: list[float]) -> list[float]:
    """Each value's maximum over the ranks."""
    tensor = torch.tensor(values, dtype=torch.float64)
    if torch.cuda.is_available() and torch.distributed.is_initialized():
        tensor = tensor.to("cuda" if torch.distributed.get_backend() == "nccl" else "cpu")
    dist.all_reduce(tensor, reduce_operation="MAX")
    return tensor.tolist()


def _is_sharded(model: nn.Module) -> bool:
    return any(isinstance(module, FSDPModule | FullyShardedDataParallel) for module in model.modules())


def _made_up(size: int, seq: int, vocab_size: int) -> dict[str, torch.Tensor]:
    """Rows of one document each, which take the most memory, from a generator of their own."""
    ids = torch.randint(0, vocab_size, (size, seq), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "labels": ids.clone(), "sequence_id": torch.zeros_like(ids)}


@contextlib.contextmanager
def _left_as_it_was(state: State) -> Iterator[None]:
    numbers, training = reproducibility.get_rng_state(), state.model.training
    state.model.train()
    try:
        # Each size is compiled for itself, and forgotten: a graph that serves several sizes is another one.
        with torch._dynamo.config.patch(automatic_dynamic_shapes=False):
            yield
    finally:
        torch._dynamo.reset()
        state.model.train(training)
        reproducibility.load_rng_state(numbers)


def _state_to_come(optimizer: torch.optim.Optimizer) -> int:
    """Bytes that an optimizer that has made no step will keep on this rank: what it keeps for a probe, scaled."""
    if optimizer.state:
        return 0
    probe = nn.Parameter(torch.zeros(64, 64))
    probe.grad = torch.zeros_like(probe)
    twin: Any = object.__new__(type(optimizer))
    # Copying would leave out what subclasses keep beside groups and state.
    twin.__dict__.update(optimizer.__dict__)
    twin.state = defaultdict(dict)
    twin.param_groups = [{**optimizer.param_groups[0], "params": [probe]}]
    twin._optimizer_step_pre_hooks, twin._optimizer_step_post_hooks = OrderedDict(), OrderedDict()
    # Schedulers put a function in the instance's place, which would step the original.
    type(optimizer).step(twin)
    kept = sum(value.nbytes for value in twin.state[probe].values() if isinstance(value, torch.Tensor))
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    local = sum((p.to_local() if isinstance(p, DTensor) else p).nbytes for p in trained)
    return int(local * kept / probe.nbytes)
