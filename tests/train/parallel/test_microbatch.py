"""`device_train_microbatch_size: auto`: the choice, what memory allows, and a run that is the same to the bit."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from codelm.config.train import TrainConfig
from codelm.errors import EnvironmentFailure
from codelm.train.optim.lionw import LionW
from codelm.train.parallel import memory, microbatch
from codelm.train.parallel.memory import HostMemory
from codelm.train.parallel.microbatch import Trial, candidates, fastest, settled_microbatch_size
from codelm.train.run import train

Make = Callable[..., TrainConfig]


@pytest.mark.parametrize(
    ("device_batch", "sizes"),
    [
        (1, [1]),
        (2, [1, 2]),
        (7, [1, 7]),
        (8, [1, 2, 4, 8]),
        (12, [1, 2, 3, 6, 12]),
        (96, [1, 2, 3, 6, 12, 24, 48, 96]),
    ],
)
def test_candidates_divide_a_devices_batch(device_batch: int, sizes: list[int]) -> None:
    assert candidates(device_batch) == sizes


def machine(seconds: Callable[[int], float], tried: list[int], each: float = 10.0) -> Callable[[int], Trial]:
    """One that holds 100 bytes, `each` more for every sample."""

    def attempt(size: int) -> Trial:
        tried.append(size)
        return Trial(size, seconds(size), 100.0, 100.0 + each * size)

    return attempt


def test_it_grows_while_that_is_faster() -> None:
    tried: list[int] = []
    assert fastest([1, 2, 4, 8, 16, 32], machine(lambda size: 1 + 0.1 * size + 0.01 * size**2, tried), 1e9) == 8
    assert tried == [1, 2, 4, 8, 16]


def test_it_does_not_try_what_would_not_fit() -> None:
    tried: list[int] = []
    assert fastest([1, 2, 4, 8, 16], machine(lambda size: 1.0, tried), limit=185.0) == 8
    assert tried == [1, 2, 4, 8]


def test_it_does_not_try_what_would_take_minutes() -> None:
    tried: list[int] = []
    assert fastest([1, 2, 4, 8], machine(lambda size: 15.0 * size**0.9, tried), 1e9) == 1
    assert tried == [1]


def test_one_sample_is_tried_whatever_the_limit_says() -> None:
    assert fastest([1, 2], machine(lambda size: 1.0, []), limit=1.0) == 1


def test_where_not_one_sample_fits_it_says_what_to_do() -> None:
    with pytest.raises(EnvironmentFailure, match="not even one sample fits in memory; set activation_checkpointing"):
        fastest([1, 2], lambda size: None, 1e9)


def test_running_out_of_memory_ends_the_search() -> None:
    attempt = machine(lambda size: 1.0, [])
    assert fastest([1, 2, 4, 8], lambda size: attempt(size) if size < 4 else None, 1e9) == 2


def test_the_hosts_peak_is_that_of_what_was_held_in_between() -> None:
    host = HostMemory()
    before = host.held()
    host.reset_peak()
    block = torch.ones(30_000_000)
    del block
    assert 0.9 * 120e6 < host.peak() - before < 1.5 * 120e6


@pytest.mark.parametrize("version", [1, 2])
def test_a_containers_limit_counts_and_its_file_cache_does_not(tmp_path: Path, version: int) -> None:
    folder = tmp_path if version == 2 else tmp_path / "memory"
    folder.mkdir(exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for name, value in zip((*names, "memory.stat"), ("1000\n", "700\n", "anon 5\ninactive_file 200\n"), strict=True):
        (folder / name).write_text(value)
    assert memory._free_in_container(tmp_path) == [500]


def test_without_a_container_there_is_no_such_limit(tmp_path: Path) -> None:
    assert memory._free_in_container(tmp_path) == []
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._free_in_container(tmp_path) == []


@pytest.mark.parametrize(
    ("make", "copies"),
    [(torch.optim.AdamW, 2), (LionW, 1), (torch.optim.SGD, 0)],
    ids=["adamw", "lion", "sgd"],
)
def test_what_the_optimizer_will_keep_is_known_before_its_first_step(make: Callable, copies: int) -> None:
    layer = torch.nn.Linear(256, 1024, bias=False)
    optimizer = make(layer.parameters(), lr=1e-3)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    before = layer.weight.clone()
    predicted = microbatch._state_to_come(optimizer)
    assert predicted == pytest.approx(copies * layer.weight.nbytes, rel=0.01)
    assert torch.equal(layer.weight, before)
    assert not optimizer.state


def found(folder: Path) -> int:
    return json.loads((folder / "latest" / "run.json").read_text())["device_train_microbatch_size"]


@pytest.mark.parametrize("settings", [{}, {"fsdp_config": {}}], ids=["ddp", "fsdp2"])
def test_a_run_after_the_search_is_the_run_with_the_number_written(
    train_config: Make, tmp_path: Path, settings: dict, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "codelm"):
        train(train_config(**settings, device_train_microbatch_size="auto", save_folder=str(tmp_path / "auto")))
    size = found(tmp_path / "auto")
    assert f"device_train_microbatch_size: auto is {size}" in caplog.text
    train(train_config(**settings, device_train_microbatch_size=size, save_folder=str(tmp_path / "written")))
    one, other = (load_file(tmp_path / name / "latest" / "model.safetensors") for name in ("auto", "written"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert found(tmp_path / "written") == size


def test_resuming_keeps_the_size_that_was_found(train_config: Make, tmp_path: Path) -> None:
    config = train_config(device_train_microbatch_size="auto", global_train_batch_size=8)
    assert settled_microbatch_size(config, None) is None
    assert settled_microbatch_size(config, {"device_train_microbatch_size": 4}) == 4
    assert settled_microbatch_size(config, {"device_train_microbatch_size": 64}) == 8
    written = train_config(device_train_microbatch_size=2)
    assert settled_microbatch_size(written, {"device_train_microbatch_size": 4}) == 2
