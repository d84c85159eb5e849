"""How a run is spread over devices, and how each of them computes."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from codelm.config.fields import PositiveInt, Section

Strategy = Literal["FULL_SHARD", "SHARD_GRAD_OP", "NO_SHARD", "HYBRID_SHARD", "_HYBRID_SHARD_ZERO2"]
HYBRID: tuple[Strategy, ...] = ("HYBRID_SHARD", "_HYBRID_SHARD_ZERO2")


class FSDPSection(Section):
    """Fully sharded data parallelism, with Composer's key names; without it several ranks train with DDP."""

    version: Literal[1, 2] = 2
    """2: torch's fully_shard; 1: FullyShardedDataParallel, which needs GPUs."""
    sharding_strategy: Strategy = "FULL_SHARD"
    """FULL_SHARD frees gathered weights after use; SHARD_GRAD_OP keeps them until the backward pass; NO_SHARD: version
    1's DDP; HYBRID_SHARD and _HYBRID_SHARD_ZERO2: the same two within groups of ranks that hold copies of each other.
    """
    data_parallel_shard_degree: PositiveInt | None = None
    """Ranks over which weights are spread; null: all, and in hybrid strategies those that the copies leave."""
    data_parallel_replicate_degree: PositiveInt | None = None
    """Copies of the weights in hybrid strategies; null: one for each node."""
    mixed_precision: Literal["DEFAULT", "PURE", "FULL"] = "DEFAULT"
    """Weights are gathered and gradients reduced in … DEFAULT: the run's precision and fp32; PURE: the run's precision;
    FULL: fp32.
    """
    state_dict_type: Literal["sharded", "full"] = "sharded"
    """Of a checkpoint's training state: a part from every rank, or one file from rank 0."""
    activation_cpu_offload: bool = False
    """Activations wait for the backward pass in the host's memory."""
    backward_prefetch: Literal["BACKWARD_PRE", "BACKWARD_POST", "NONE"] | None = None
    """When version 1 gathers the weights of the next block; null: BACKWARD_POST; version 2 always BACKWARD_PRE."""
    forward_prefetch: bool = False
    """Version 1 gathers the next block's weights before this block's forward pass; version 2 overlaps by itself."""
    limit_all_gathers: bool = True
    """At most two blocks' weights are gathered at once; version 2 always does so."""
    verbose: bool = False
    """Log the wrapped model."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "FSDPSection":
        hybrid = self.sharding_strategy in HYBRID
        if not hybrid and self.data_parallel_replicate_degree not in (None, 1):
            raise ValueError(
                f"data_parallel_replicate_degree {self.data_parallel_replicate_degree} is for HYBRID_SHARD and"
                f" _HYBRID_SHARD_ZERO2, not {self.sharding_strategy}"
            )
        if self.version == 1:
            return self
        if self.sharding_strategy == "NO_SHARD":
            raise ValueError("sharding_strategy NO_SHARD is version 1's; leave fsdp_config out, which trains with DDP")
        if self.backward_prefetch not in (None, "BACKWARD_PRE"):
            raise ValueError(
                f"backward_prefetch {self.backward_prefetch} is version 1's; version 2 always does BACKWARD_PRE"
            )
        if self.forward_prefetch:
            raise ValueError("forward_prefetch is version 1's; version 2 overlaps by itself, so delete it")
        if not self.limit_all_gathers:
            raise ValueError("limit_all_gathers false is version 1's; version 2 always limits them, so delete it")
        return self


class CompileSection(Section):
    """torch.compile; needs a C++ compiler on CPU, and costs up to a few minutes at the start."""

    mode: Literal["block"] = "block"
    """block: each decoder block on its own, so that one small graph serves them all."""


class ActivationCheckpointingSection(Section):
    """Recompute activations in the backward pass: losses and gradients stay the same; true means every block."""

    every: PositiveInt = 1
    """Every nth block only; the others keep their activations."""
    selective: bool = False
    """Keep what attention and every other matrix product computed, and recompute the rest: between true and false in
    memory and time.
    """


def _switch(value: Any) -> Any:
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


def _or_boolean(schema: dict[str, Any]) -> None:
    schema["anyOf"].append({"type": "boolean"})


ActivationCheckpointing = Annotated[
    ActivationCheckpointingSection | None, BeforeValidator(_switch), Field(json_schema_extra=_or_boolean)
]
"""true, false, or a section."""


def _number_or_auto(value: object, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except ValueError:
        raise ValueError(f"should be a whole number above 0, or auto (got {value!r})") from None


MicrobatchSize = Annotated[PositiveInt | Literal["auto"], WrapValidator(_number_or_auto)]
