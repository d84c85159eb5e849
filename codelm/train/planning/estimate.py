"""Memory and time of a run on a machine: a footprint, spread over devices, at the machine's speed.

Memory: weights, gradients and the optimizer's state, each a part of it where they are sharded; what a microbatch takes;
under FSDP two blocks' gathered weights and one's gradients; under DDP the buckets that gradients are sent in.
Time: every kernel takes as long as its arithmetic or its memory traffic, whichever is longer (a roofline); transfers
hide behind it as far as they are no longer.
"""

from dataclasses import dataclass

from codelm.config.train import TrainConfig
from codelm.config.training.optim import LionWSection
from codelm.config.training.parallel import FSDPSection
from codelm.train.planning.footprint import Architecture, Footprint
from codelm.train.planning.machine import Machine

_FP32 = 4
_HALF = 2
_STREAMED = 0.7
"""The share of the memory's bandwidth that kernels reach."""
_SENT = 0.7
"""The share of a link's speed that collectives reach."""
_FUSED = 0.4
"""The traffic that is left of small kernels where blocks are compiled."""


@dataclass(frozen=True)
class Memory:
    """Bytes of the fullest device."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    communication: float
    overhead: float

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations + self.communication + self.overhead


@dataclass(frozen=True)
class Spread:
    """How weights are laid over devices."""

    shards: int
    copies: int

    @property
    def ranks(self) -> int:
        return self.shards * self.copies


def spread(section: FSDPSection | None, machine: Machine) -> Spread:
    """Ranks that share the weights, and copies of these."""
    if section is None or machine.count == 1 or section.sharding_strategy == "NO_SHARD":
        return Spread(1, machine.count)
    if "HYBRID" in section.sharding_strategy:
        copies = section.data_parallel_replicate_degree or machine.nodes
        return Spread(section.data_parallel_shard_degree or machine.count // copies, copies)
    return Spread(machine.count, 1)


def is_sharded(config: TrainConfig, machine: Machine) -> bool:
    """Whether FSDP gathers weights before a block is computed."""
    return spread(config.fsdp_config, machine).shards > 1


def accumulates(config: TrainConfig, machine: Machine, microbatch: int) -> bool:
    """Whether gradients are there before a pass: of the microbatch before, or in the buckets of DDP and FSDP."""
    return machine.count > 1 or config.global_train_batch_size > microbatch


def state_bytes(config: TrainConfig) -> int:
    """Bytes that the optimizer keeps for a trained weight."""
    return _FP32 if isinstance(config.optimizer, LionWSection) else 2 * _FP32


def memory(
    plan: Architecture,
    config: TrainConfig,
    machine: Machine,
    found: Footprint,
    microbatch: int,
    mixed: bool,
    computed: float | None = None,
) -> Memory:
    """Bytes at the peak of a step, which is in the forward or backward pass.

    Args:
        computed: activations if none were recomputed, where they are: they pass through the allocator all the same.
    """
    laid = spread(config.fsdp_config, machine)
    costs, gathered = plan.costs, _HALF if mixed else _FP32
    activations = found.activations
    gradients = _FP32 * costs.trainable / laid.shards
    communication = 0.0
    if laid.shards > 1:
        kept = "GRAD_OP" in getattr(config.fsdp_config, "sharding_strategy", "")
        blocks = plan.layers if kept else min(2, plan.layers)
        in_use = blocks * plan.largest_block + plan.biggest_other
        reduced = plan.largest_block * (gathered + _reduced_width(config, mixed))
        communication = gathered * in_use + reduced
    elif machine.count > 1:
        communication = _FP32 * costs.trainable
    elif not accumulates(config, machine, microbatch):
        gradients = 0.0  # They come as the activations go, and were noted with them.
    mask = _mask(plan, config, machine, microbatch)
    return Memory(
        weights=(_FP32 * costs.trainable + _frozen(config) * (costs.parameters - costs.trainable)) / laid.shards,
        gradients=gradients,
        optimizer=state_bytes(config) * costs.trainable / laid.shards,
        activations=activations + mask + (machine.slack - 1) * (mask + (computed or activations)),
        communication=communication,
        overhead=machine.overhead,
    )


def _reduced_width(config: TrainConfig, mixed: bool) -> int:
    """Bytes of a gradient's element on its way between ranks."""
    pure = config.fsdp_config is not None and config.fsdp_config.mixed_precision == "PURE"
    return _HALF if pure and mixed else _FP32


def _frozen(config: TrainConfig) -> float:
    """Bytes of a weight that is not trained; in few bits with the scale of its block."""
    section = config.model
    return 0.55 if section.load_in_4bit else 1.05 if section.load_in_8bit else _FP32


def _mask(plan: Architecture, config: TrainConfig, machine: Machine, microbatch: int) -> float:
    """Bytes of the attention's bias: fused kernels have none, a CPU has one for all rows, plain SDPA has one a row."""
    attention = getattr(plan.config, "attn_config", None)
    if attention is None:
        return 0.0
    scores = plan.config.n_heads * config.max_seq_len**2
    if machine.is_cpu:
        return _FP32 * scores
    return _HALF * microbatch * scores if attention["attn_impl"] == "torch" else 0.0


def step_seconds(
    plan: Architecture, config: TrainConfig, machine: Machine, found: Footprint, microbatch: int, mixed: bool
) -> float:
    """Of an optimizer step."""
    device, laid = machine.device, spread(config.fsdp_config, machine)
    passes = max(1, round(config.global_train_batch_size / (microbatch * machine.count)))
    peak = device.flops if mixed or machine.is_cpu else device.flops / 8
    traffic = _STREAMED * device.bandwidth
    fused = _FUSED if config.compile is not None else 1.0
    computing = 0.0
    for operation, times in found.operations.items():
        share = {"matmul": device.matmul, "attention": device.attention}.get(operation.kind, 1.0)
        moved = operation.bytes * (fused if operation.kind == "other" else 1.0)
        longest = max(operation.flops / (peak * share), moved / traffic, machine.kernel_seconds)
        computing += times * longest
    width = _HALF if mixed else _FP32
    sending = 0.0
    if laid.shards > 1:
        # Gathered for the forward and for the backward pass, and the gradients reduced.
        kept = "GRAD_OP" in getattr(config.fsdp_config, "sharding_strategy", "")
        moved = width * (1 if kept else 2) + _reduced_width(config, mixed)
        each = plan.costs.parameters * moved * (1 - 1 / laid.shards)
        sending = each / (_SENT * machine.sends(laid.shards))
    once = 0.0
    if laid.copies > 1:
        once = 2 * _FP32 * plan.costs.trainable / laid.shards * (1 - 1 / laid.copies)
        once /= _SENT * machine.sends(laid.ranks)
    # The first gather and the last reduction have nothing to hide behind.
    exposed = sending / plan.layers
    updated = plan.costs.trainable / laid.shards * (5 * _FP32 + 2 * state_bytes(config))
    return passes * (max(computing, sending) + exposed) + max(0.0, once - computing / 2) + updated / traffic
