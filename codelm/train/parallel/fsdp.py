"""`fsdp_config` as Composer's FSDPConfig or FSDP2Config, with the ranks laid out as it says."""

from dataclasses import dataclass
from typing import Any

from composer.utils import FSDPConfig, dist
from composer.utils.parallelism import FSDP2Config

from codelm.config.train import TrainConfig
from codelm.config.training.parallel import HYBRID, FSDPSection
from codelm.errors import ConfigError


@dataclass(frozen=True)
class Layout:
    """Ranks as a grid: each weight is spread over the ranks of a row, and every row holds a copy."""

    replicate: int
    shard: int


class MeshedFSDP2Config(FSDP2Config):
    """Composer 0.32 lays out FSDP2's ranks by two properties that are fixed to one row; a given mesh is replaced."""

    layout: Layout

    @property
    def data_parallel_shard_degree(self) -> int:
        return self.layout.shard

    @property
    def data_parallel_replicate_degree(self) -> int | None:
        return self.layout.replicate if self.layout.replicate > 1 else None


def layout(section: FSDPSection, world_size: int, local_world_size: int) -> Layout:
    """The grid of ranks that a section asks for.

    Args:
        local_world_size: the ranks of a node.

    Raises:
        ConfigError: the ranks there are do not fill it, or a hybrid strategy would hold one copy only.
    """
    hybrid = section.sharding_strategy in HYBRID
    shard, replicate = section.data_parallel_shard_degree, section.data_parallel_replicate_degree
    if not hybrid:
        shard, replicate = shard or world_size, 1
    elif replicate is None:
        replicate = world_size // (shard or local_world_size)
    shard = shard or world_size // replicate
    if replicate * shard != world_size:
        raise ConfigError(
            f"fsdp_config: {replicate} x {shard} (data_parallel_replicate_degree x data_parallel_shard_degree) does not"
            f" make the {world_size} ranks there are; leave out one of them, or start {replicate * shard} ranks"
        )
    if hybrid and replicate == 1:
        raise ConfigError(
            f"fsdp_config: {section.sharding_strategy} on {world_size} ranks of one node would hold one copy of the"
            " weights; set data_parallel_replicate_degree=2 or more, or sharding_strategy=FULL_SHARD"
        )
    return Layout(replicate, shard)


def fsdp_config(section: FSDPSection, world_size: int, local_world_size: int) -> FSDPConfig | FSDP2Config:
    """Composer's configuration; raises what `layout` raises."""
    grid = layout(section, world_size, local_world_size)
    if section.version == 1:
        return _fsdp1(section, grid)
    config = MeshedFSDP2Config(
        reshard_after_forward=section.sharding_strategy in ("FULL_SHARD", "HYBRID_SHARD"),
        state_dict_type=section.state_dict_type,
        mixed_precision=section.mixed_precision,
        verbose=section.verbose,
    )
    config.layout = grid
    return config


def check_fsdp(config: TrainConfig, device: str) -> None:
    """Refuse what Composer would fail at, or do otherwise than it says.

    Args:
        device: `cpu` or `gpu`.

    Raises:
        ConfigError: with the remedy.
    """
    section = config.fsdp_config
    if section is None:
        return
    layout(section, dist.get_world_size(), dist.get_local_world_size())
    if section.activation_cpu_offload and config.compile is not None:
        raise ConfigError("fsdp_config.activation_cpu_offload and compile exclude each other; leave out one of them")
    if section.activation_cpu_offload and device == "cpu":
        raise ConfigError("fsdp_config.activation_cpu_offload: activations are in the host's memory already; delete it")
    if section.version == 2:
        return
    if device == "cpu":
        raise ConfigError("fsdp_config.version 1 needs GPUs; on CPU set fsdp_config.version=2")


def _fsdp1(section: FSDPSection, grid: Layout) -> FSDPConfig:
    options: dict[str, Any] = {
        "sharding_strategy": section.sharding_strategy,
        "data_parallel_shard_degree": grid.shard,
        "mixed_precision": section.mixed_precision,
        "state_dict_type": section.state_dict_type,
        "backward_prefetch": section.backward_prefetch or "BACKWARD_POST",
        "forward_prefetch": section.forward_prefetch,
        "limit_all_gathers": section.limit_all_gathers,
        "use_orig_params": True,
        "verbose": section.verbose,
    }
    if grid.replicate > 1:
        options["data_parallel_replicate_degree"] = grid.replicate
    unknown = options.keys() - FSDPConfig.__dataclass_fields__.keys()
    # Composer sets whatever it is given, whether it reads it or not.
    assert not unknown, unknown
    return FSDPConfig(**options)
