"""What Composer 0.32 does without a word, or fails at, and a run of ours does not: a test for each trap of parallelism.

Those of the other subjects stand with them: batches that are not finite in test_guard.py, evaluation that moves random
numbers in test_run.py, torn checkpoints and other numbers of ranks in checkpoints/, exit codes in lifeline/, loggers
that fail in loggers/, Lion on sharded weights in optim/.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import composer.trainer.trainer as composer_trainer
import pytest
import torch
from composer import Trainer
from composer.cli import launcher
from composer.core import Precision
from composer.utils import FSDPConfig, collect_env
from torch.distributed.tensor import DTensor

from codelm.config import load_config
from codelm.config.train import TrainConfig
from codelm.config.training.parallel import FSDPSection
from codelm.errors import CheckpointError, ConfigError
from codelm.train import composer_args
from codelm.train.build import build_pieces
from codelm.train.checkpoints.training_state import _read_run_state
from codelm.train.parallel.fsdp import fsdp_config
from codelm.train.run import train

Make = Callable[..., TrainConfig]


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Composer's state was when training began."""
    found: dict[str, Any] = {}
    fit = Trainer.fit

    def fitting(self: Trainer, *args: Any, **kwargs: Any) -> None:
        found["version"] = self.state.fsdp_config_version
        found["sharded"] = all(isinstance(p, DTensor) and not p.is_meta for p in self.state.model.parameters())
        found["searches"] = self.state.auto_microbatching
        with composer_trainer.get_precision_context(self.state.precision):
            found["cpu_dtype"] = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
        fit(self, *args, **kwargs)
        found["loss"] = float((self.state.total_loss_dict or {})["loss/train/total"])

    monkeypatch.setattr(Trainer, "fit", fitting)
    return found


def test_fsdp2_under_its_own_key_is_ddp(train_config: Make, state: dict[str, Any]) -> None:
    """Composer reads `fsdp` alone. On CPU it cannot give a model of shapes alone its weights either."""
    arguments = composer_args.parallelism(train_config(fsdp_config={}))
    assert arguments is not None
    assert arguments.keys() == {"fsdp"}
    train(train_config(fsdp_config={}, max_duration="1ba"))
    assert (state["version"], state["sharded"]) == (2, True)
    assert composer_args.parallelism(train_config()) is None


@pytest.mark.parametrize("key", ["sharding_stratgy", "mixed_precison", "limit_all_gather", "backward_prefech"])
def test_composers_fsdp_configuration_takes_any_key(key: str, tmp_path: Path, train_config: Make) -> None:
    assert getattr(FSDPConfig(**{key: "x"}), key) == "x"
    (tmp_path / "x.yaml").write_text(f"fsdp_config:\n  {key}: x\n")
    with pytest.raises(ConfigError, match=rf"{key}.*did you mean"):
        load_config("train", str(tmp_path / "x.yaml"))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("kind", ["full", "sharded"])
def test_loading_on_rank_0_only_gives_other_ranks_wrong_weights(version: Any, kind: Any) -> None:
    section = FSDPSection(version=version, state_dict_type=kind)
    assert not fsdp_config(section, 1, 1).load_monolith_rank0_only


def test_the_search_for_a_microbatch_is_for_gpus_and_fsdp1_alone(train_config: Make, state: dict[str, Any]) -> None:
    """Above torch 2.7 Composer's fails with a NameError; ours never lets it begin."""
    train(train_config(fsdp_config={}, device_train_microbatch_size="auto", max_duration="1ba"))
    assert state["searches"] is False


def test_bf16_on_cpu_is_refused_or_computed_in_fp32(train_config: Make, state: dict[str, Any], tmp_path: Path) -> None:
    losses = {}
    for precision in ("fp32", "amp_bf16"):
        changes = {"precision": precision, "max_duration": "2ba", "save_folder": str(tmp_path / precision)}
        train(train_config(**changes, fsdp_config={} if precision == "amp_bf16" else None))
        losses[precision] = state["loss"]
    assert state["cpu_dtype"] == torch.bfloat16
    assert losses["amp_bf16"] == pytest.approx(losses["fp32"], rel=0.01)
    assert losses["amp_bf16"] != losses["fp32"]
    assert composer_args.precision(train_config()) == Precision.FP32


class Mischief:
    """Unpickling it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def test_the_trainer_starts_another_python_to_name_the_processor(
    train_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second or more on every rank, for a name that it does not log."""
    asked: list[str] = []
    monkeypatch.setattr(collect_env, "get_cpu_model", lambda: asked.append("Composer's") or "a processor")
    composer_env = collect_env.get_composer_env_dict()
    asked.append("ours")
    train(train_config(max_duration="1ba"))
    assert asked == ["Composer's", "ours"]
    ours = composer_trainer.get_composer_env_dict()
    assert ours == {key: composer_env[key] for key in ("composer_version", "composer_commit_hash")}


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    """Composer 0.32 loads with `weights_only=False`, and its metadata by pickle itself."""
    torch.save({"format": 1, "rng": Mischief(tmp_path / "ran")}, tmp_path / "run_state.pt")
    with pytest.raises(CheckpointError, match=r"run_state\.pt cannot be read"):
        _read_run_state(tmp_path / "run_state.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("ranks", [3, 8])
def test_a_batch_that_the_ranks_cannot_share_is_refused(ranks: int, train_config: Make) -> None:
    with pytest.raises(ConfigError, match=rf"4 does not divide over {ranks} ranks; use a multiple of {ranks}"):
        build_pieces(train_config(), 0, ranks)


@pytest.mark.parametrize("batch", [10**9, 10**20])
def test_a_batch_that_no_memory_holds_is_refused_at_once(batch: int, train_config: Make) -> None:
    """Whatever the microbatch, the loader puts a rank's share of a batch together."""
    with pytest.raises(ConfigError, match=r"global_train_batch_size [\d,]+: the tokens of .* samples for each rank"):
        build_pieces(train_config(global_train_batch_size=batch), 0, 1)


def test_a_microbatch_that_no_memory_holds_is_refused_before_a_model_is_built(train_config: Make) -> None:
    large = {"global_train_batch_size": 400_000, "device_train_microbatch_size": 400_000}
    with pytest.raises(ConfigError, match=r"would take [\d,]+ GB .* lower device_train_microbatch_size \(400,000\)"):
        train(train_config(**large))


def test_more_ranks_than_samples_are_refused(train_config: Make) -> None:
    config = train_config()
    streams = {language: {"limit": 1} for language in build_pieces(config, 0, 1).data.samples}
    data = config.train_data.model_dump() | {"streams": streams}
    with pytest.raises(ConfigError, match=rf"has {len(streams)} samples for {len(streams) + 1} ranks"):
        build_pieces(train_config(train_data=data, global_train_batch_size=6 * 4), 0, len(streams) + 1)


AVERAGE = """
import sys
import torch
import torch.distributed as dist
from codelm.train import composer_compat
composer_compat.apply()
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=int(sys.argv[2]), world_size=2)
part = torch.empty(2)
dist.reduce_scatter_tensor(part, torch.full((4,), float(sys.argv[2])), op=dist.ReduceOp.AVG)
assert part.tolist() == [0.5, 0.5], part
"""


@pytest.mark.world_size(2)
def test_gloo_of_torch_2_7_sums_where_fsdp2_averages(tmp_path: Path) -> None:
    command = [sys.executable, "-c", AVERAGE, str(tmp_path / "meeting")]
    ranks = [subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE, text=True) for rank in range(2)]
    for rank in ranks:
        _, errors = rank.communicate(timeout=300)
        assert rank.returncode == 0, errors


ARGUMENTS = ["run_name=mine", "save_folder=runs/${run_name}", "load_path=${oc.env:CODELM_PLACE}/x", "tokenizer.path=$A"]
READ = """
import json, sys
from codelm.config import load_config
config = load_config("train", sys.argv[2], sys.argv[3:])
json.dump([config.save_folder, config.load_path, config.tokenizer.path], open(sys.argv[1], "w"))
"""


def test_the_launcher_fills_in_variables_of_the_environment_and_leaves_our_references_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train_settings: dict[str, Any]
) -> None:
    """On each rank for itself, before we see them: `$RANK` is another number on each."""
    monkeypatch.setenv("CODELM_PLACE", "there")
    monkeypatch.setenv("A", "expanded")
    (tmp_path / "read.py").write_text(READ)
    (tmp_path / "run.yaml").write_text(json.dumps(train_settings))
    by_hand = load_config("train", str(tmp_path / "run.yaml"), ARGUMENTS)
    assert [by_hand.save_folder, by_hand.load_path, by_hand.tokenizer.path] == ["runs/mine", "there/x", "$A"]
    processes: dict[int, subprocess.Popen] = {}
    launcher._launch_processes(
        nproc=1,
        world_size=1,
        base_rank=0,
        node_rank=0,
        master_addr="127.0.0.1",
        master_port=1,
        module_mode=False,
        command_mode=False,
        training_script=str(tmp_path / "read.py"),
        stdout_file_format="",
        stderr_file_format=None,
        training_script_args=[str(tmp_path / "found.json"), str(tmp_path / "run.yaml"), *ARGUMENTS],
        processes=processes,
    )
    assert processes[0].wait(timeout=120) == 0
    assert json.loads((tmp_path / "found.json").read_text()) == ["runs/mine", "there/x", "expanded"]
