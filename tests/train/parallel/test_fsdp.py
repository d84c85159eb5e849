"""`fsdp_config` becomes what it says: the grid of ranks, Composer's configuration, and sharded models on 256 ranks.

There are no 256 ranks here: torch's fake process group has them, whose collectives do nothing.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as torch_dist
from composer.core import Precision
from composer.core.state import _create_device_mesh
from composer.devices import DeviceCPU
from composer.distributed import prepare_distributed, prepare_fsdp_module
from composer.utils import FSDPConfig
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from codelm.config.sizes import SIZES
from codelm.config.train import TrainConfig
from codelm.config.training.parallel import FSDPSection
from codelm.errors import ConfigError
from codelm.model import ReplitCodeConfig
from codelm.train import composer_compat
from codelm.train.composer_model import ComposerCausalLM
from codelm.train.parallel.fsdp import Layout, check_fsdp, fsdp_config, layout
from codelm.train.parallel.initial import fresh_model, shapes_only

RANKS, NODE = 256, 8


@pytest.mark.parametrize(
    ("section", "grid"),
    [
        ({}, Layout(1, 256)),
        ({"data_parallel_shard_degree": 256}, Layout(1, 256)),
        ({"sharding_strategy": "HYBRID_SHARD"}, Layout(32, 8)),
        ({"sharding_strategy": "HYBRID_SHARD", "data_parallel_replicate_degree": 4}, Layout(4, 64)),
        ({"sharding_strategy": "_HYBRID_SHARD_ZERO2", "data_parallel_shard_degree": 16}, Layout(16, 16)),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_ranks_are_laid_out_as_the_section_says(section: dict[str, Any], grid: Layout, version: int) -> None:
    assert layout(FSDPSection(**section, version=version), RANKS, NODE) == grid  # pyright: ignore


@pytest.mark.parametrize(
    ("section", "ranks", "sentence"),
    [
        ({"data_parallel_shard_degree": 8}, 256, "does not make the 256 ranks there are"),
        ({"sharding_strategy": "HYBRID_SHARD", "data_parallel_replicate_degree": 3}, 256, "does not make the 256"),
        ({"sharding_strategy": "HYBRID_SHARD"}, 8, "on 8 ranks of one node would hold one copy of the weights"),
    ],
)
def test_a_grid_that_the_ranks_do_not_fill_is_refused(section: dict[str, Any], ranks: int, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        layout(FSDPSection(**section), ranks, NODE)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"fsdp_config": {"version": 1}}, "version 1 needs GPUs; on CPU set fsdp_config.version=2"),
        ({"fsdp_config": {"activation_cpu_offload": True}}, "in the host's memory already"),
        ({"fsdp_config": {"data_parallel_shard_degree": 2}}, "does not make the 1 ranks there are"),
        (
            {"fsdp_config": {"activation_cpu_offload": True}, "compile": {}},
            "activation_cpu_offload and compile exclude each other",
        ),
    ],
)
def test_what_cannot_run_here_is_refused_first(
    train_config: Callable[..., TrainConfig], changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_fsdp(train_config(**changes), "cpu")


@pytest.mark.parametrize("version", [1, 2])
def test_composer_gets_only_keys_that_it_reads(version: int) -> None:
    """Its FSDPConfig takes any key without a word."""
    config = fsdp_config(FSDPSection(version=version), RANKS, NODE)  # pyright: ignore
    assert vars(config).keys() - {"layout", "_device_mesh", "_sync_module_states"} <= config.__dataclass_fields__.keys()


@pytest.fixture
def many_ranks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process is rank 0 of 256."""
    composer_compat.apply()
    for name, value in {"RANK": 0, "WORLD_SIZE": RANKS, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": NODE}.items():
        monkeypatch.setenv(name, str(value))
    if torch_dist.is_initialized():  # The group of one that a run in this process, in another test, left.
        torch_dist.destroy_process_group()
    torch_dist.init_process_group("fake", rank=0, world_size=RANKS, store=FakeStore())
    yield
    torch_dist.destroy_process_group()


def meshed(section: FSDPSection) -> Any:
    """Composer's configuration as it is when it shards."""
    config = fsdp_config(section, RANKS, NODE)
    config.device_mesh = _create_device_mesh(DeviceCPU(), config, None)
    return config


@pytest.mark.usefixtures("many_ranks")
@pytest.mark.parametrize(
    ("strategy", "copies", "placements"),
    [("FULL_SHARD", 1, (Shard(0),)), ("HYBRID_SHARD", 32, (Replicate(), Shard(0)))],
)
def test_fsdp2_spreads_3b_over_256_ranks_and_no_rank_holds_more_than_its_part(
    monkeypatch: pytest.MonkeyPatch, strategy: Any, copies: int, placements: tuple[Any, ...]
) -> None:
    # Drawing 2.7 billion numbers takes a minute; where they go is settled before.
    monkeypatch.setattr(prepare_distributed, "meta_init", lambda model: None)
    shape: dict[str, Any] = SIZES["3b"]
    architecture = ReplitCodeConfig(**shape, vocab_size=32768, max_seq_len=2048)
    model = ComposerCausalLM(shapes_only(architecture, 17), torch.zeros(32768, dtype=torch.long))
    whole = sum(parameter.numel() for parameter in model.parameters())
    assert whole > 2.5e9
    config = meshed(FSDPSection(sharding_strategy=strategy))
    prepare_distributed.parallelize_composer_model(model, None, config, Precision.FP32)
    parameters = [*model.parameters()]
    assert all(isinstance(p, DTensor) and p.is_meta and p.placements == placements for p in parameters)
    held = sum(p.to_local().numel() for p in parameters if isinstance(p, DTensor))
    assert held == pytest.approx(whole * copies / RANKS, rel=0.01)


@pytest.mark.usefixtures("many_ranks")
@pytest.mark.parametrize(
    ("strategy", "wanted"),
    [
        ("FULL_SHARD", ShardingStrategy.FULL_SHARD),
        ("SHARD_GRAD_OP", ShardingStrategy.SHARD_GRAD_OP),
        ("HYBRID_SHARD", ShardingStrategy.HYBRID_SHARD),
        ("_HYBRID_SHARD_ZERO2", ShardingStrategy._HYBRID_SHARD_ZERO2),
    ],
)
def test_fsdp1_wraps_every_block_with_the_strategy_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, strategy: Any, wanted: ShardingStrategy
) -> None:
    """With another mesh Composer trains with another strategy than was asked for, after a warning."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: torch.device("cpu"))
    tiny = ReplitCodeConfig(d_model=32, n_heads=4, n_layers=2, vocab_size=64, max_seq_len=32)
    model = ComposerCausalLM(fresh_model(tiny, 17), torch.zeros(64, dtype=torch.long))
    config = meshed(FSDPSection(version=1, sharding_strategy=strategy))
    assert isinstance(config, FSDPConfig)
    prepare_fsdp_module(model, None, config, Precision.FP32, DeviceCPU())
    wrapped = [module for module in model.modules() if isinstance(module, FullyShardedDataParallel)]
    assert len(wrapped) == 3
    assert {module.sharding_strategy for module in wrapped} == {wanted}
    group = wrapped[0].process_group
    assert group is not None
    assert group.size() == (NODE if "HYBRID" in strategy else RANKS)
