"""Evaluations during training: on two ranks with unequal work under FSDP2, through failures, without a trace in it."""

import inspect
import json
import json.scanner
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from codelm.config.train import TrainConfig
from codelm.config.training.callbacks import CodeEvalSection
from codelm.eval.benchmarks import humaneval
from codelm.eval.problem import Benchmark
from codelm.eval.repository.build import build
from codelm.eval.repository.gates import GateSettings
from codelm.eval.repository.settings import BuildSettings
from codelm.train import assemble
from codelm.train.callbacks import code_eval
from codelm.train.callbacks.code_eval import CodeEval, Evaluated
from codelm.train.run import train

# Three prompts on two ranks: the second has less to do. Of one problem, it has nothing to do.
TASKS = {
    "humaneval": {"limit": 3, "max_new_tokens": 8},
    "custom": {"one": {"load": "code_eval_ranks:one_problem", "max_new_tokens": 4}},
}
SECTION = {"code_eval": {"interval": "2ba", "tasks": TASKS, "sandbox": {"num_workers": 1}}}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(rows: list[dict[str, Any]]) -> list[float]:
    return [row["loss/train/total"] for row in rows if "loss/train/total" in row]


@pytest.mark.world_size(2)
def test_two_ranks_with_unequal_work_end_and_train_as_they_would_without(
    launch: Any, train_settings: dict[str, Any], tmp_path: Path
) -> None:
    changes = {"fsdp_config": {}, "max_duration": "4ba", "save_interval": "4ba", "eval_data": {}}
    runs = {"without": {}, "with": {"callbacks": SECTION}, "short": {"callbacks": SECTION}}
    (tmp_path / "settings.json").write_text(json.dumps({**train_settings, **changes, "runs": runs}))
    script = Path(__file__).with_name("code_eval_ranks.py")
    launch.script(script, tmp_path / "settings.json", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(losses(found["with"])) == 4
    assert losses(found["with"]) == losses(found["without"])
    assert losses(found["short"]) == losses(found["without"])
    assert [row["batch"] for row in found["short"] if "eval/one/pass@1" in row] == [4], "a rank had no room before"
    for name in ("humaneval", "one"):
        scored = {row["batch"]: row for row in found["with"] if f"eval/{name}/pass@1" in row}
        assert sorted(scored) == [2, 4]
        assert scored[2][f"eval/{name}/gold_bpb"] != scored[4][f"eval/{name}/gold_bpb"]
    folder = Path(train_settings["save_folder"]) / "with" / "code_eval" / "ba000002" / "humaneval"
    samples = [json.loads(line)["task_id"] for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert samples == ["HumanEval/0", "HumanEval/1", "HumanEval/2"]


def test_one_process_trains_alike_and_logs_each_result_as_of_its_batch(
    train_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    short = {"max_duration": "4ba", "eval_data": {}}
    section = {"code_eval": {"interval": "2ba", "tasks": {"humaneval": TASKS["humaneval"]}}}
    train(train_config(**short, save_folder=str(tmp_path / "without")))
    train(train_config(**short, save_folder=str(tmp_path / "with"), callbacks=section))
    assert losses(rows_of(tmp_path / "with")) == losses(rows_of(tmp_path / "without"))
    assert sorted(row["batch"] for row in rows_of(tmp_path / "with") if "eval/humaneval/pass@1" in row) == [2, 4]


def test_what_comes_after_the_last_checkpoint_is_made_up_for(
    train_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    """A run that was killed while its last evaluation was judged; its checkpoint is the end."""
    section = {"code_eval": {"interval": "2ba", "tasks": {"humaneval": TASKS["humaneval"]}}}
    config = train_config(max_duration="2ba", eval_data={}, save_folder=str(tmp_path / "run"), callbacks=section)
    train(config)
    folder, (result,) = tmp_path / "run", [row for row in rows_of(tmp_path / "run") if "eval/humaneval/pass@1" in row]
    (folder / "report.html").unlink()
    (folder / "code_eval" / "ba000002" / "logged").unlink()
    (folder / "code_eval" / "ba000002" / "humaneval" / "summary.json").unlink()
    others = [row for row in rows_of(folder) if "eval/humaneval/pass@1" not in row]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in others))
    train(config)
    again = [row for row in rows_of(folder) if "eval/humaneval/pass@1" in row]
    assert again == [{"batch": 2, **{key: value for key, value in result.items() if key.startswith("eval/")}}]
    assert "pass@1" in (folder / "report.html").read_text()
    train(config)
    assert [row for row in rows_of(folder) if "eval/humaneval/pass@1" in row] == again


REPOSITORY = {
    "till.py": """
        def total(prices):
            result = 0
            for price in prices:
                result += price
            return result
    """,
    # Alone long enough to be held out.
    "scanner.py": inspect.getsource(json.scanner),
    "test_till.py": """
        from till import total

        def test_total():
            assert total([1, 2, 3]) == 6
    """,
}


@pytest.fixture
def own_benchmark(tmp_path: Path) -> Path:
    """A benchmark built of a repository: a file of it held out, a function of another judged by its test."""
    for name, text in REPOSITORY.items():
        (tmp_path / "shop" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "shop" / name).write_text(textwrap.dedent(text).lstrip())
    settings = BuildSettings(repeats=2, held_out=0.5, gates=GateSettings(mutants=2))
    built = build(str(tmp_path / "shop"), sys.executable, tmp_path / "bench", settings, workers=1)
    assert built.gates["body"]["kept"] == 1
    assert built.held_out["python"]["files"] == 1
    return built.folder


def test_the_user_s_own_repository_is_judged_beside_training(
    train_config: Callable[..., TrainConfig], own_benchmark: Path, tmp_path: Path
) -> None:
    tasks = {
        "repository": {"shop": {"path": str(own_benchmark), "max_new_tokens": 8}},
        "held_out": {"files": {"path": str(own_benchmark), "max_new_tokens": 8}},
    }
    section = {"code_eval": {"interval": "2ba", "tasks": tasks, "sandbox": {"num_workers": 1}}}
    train(train_config(max_duration="4ba", eval_data={}, save_folder=str(tmp_path / "run"), callbacks=section))
    rows = rows_of(tmp_path / "run")
    for metric in ("eval/shop/pass@1", "eval/files/bits_per_byte"):
        assert sorted(row["batch"] for row in rows if metric in row) == [2, 4], metric
    (verdicts,) = (tmp_path / "run/code_eval/ba000004/shop").glob("verdicts.*.jsonl")
    assert {json.loads(line)["judge"] for line in verdicts.read_text().splitlines()} == {"in_process"}


@pytest.mark.parametrize("place", ["generate_stage", "whole_model"])
def test_what_fails_on_a_rank_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    def out_of_memory(*_: Any) -> None:
        raise torch.cuda.OutOfMemoryError("no room for the cache")

    class Itself:
        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(code_eval, "whole_model", lambda *_: Itself())
    monkeypatch.setattr(code_eval, place, out_of_memory)
    benchmark = Benchmark("humaneval", "HumanEval", humaneval.load_problems(1))
    run: Any = Evaluated({"humaneval": benchmark}, None, 1, tmp_path / "code_eval", None, None)  # pyright: ignore
    callback = CodeEval(CodeEvalSection.model_validate({"interval": "1ba"}), lambda *_: True, run)
    state: Any = SimpleNamespace(timestamp=SimpleNamespace(batch=7), model=None, device=SimpleNamespace(_device="cpu"))
    logger: Any = None
    with caplog.at_level("WARNING"):
        callback.batch_end(state, logger)
    assert "code evaluation at batch 7 was left out: OutOfMemoryError: no room for the cache" in caplog.text
    assert not (tmp_path / "code_eval").exists()


def test_gaps_that_the_tokenizer_cannot_show_are_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gap = {"prompt": "def one():\n", "canonical_solution": "    return 1\n", "suffix": "\n"}
    row = {"task_id": "one", "entry_point": "one", "test": "def check(candidate):\n    pass\n", **gap}
    (tmp_path / "gaps.jsonl").write_text(json.dumps(row) + "\n")
    tasks = {"infilling": {"path": str(tmp_path / "gaps.jsonl")}}
    section = CodeEvalSection.model_validate({"interval": "1ba", "tasks": tasks})
    config: Any = SimpleNamespace(callbacks=SimpleNamespace(code_eval=section))
    pieces: Any = SimpleNamespace(tokenizer=SimpleNamespace(special_ids={"eos": 0}))
    with caplog.at_level("WARNING"):
        assert assemble.benchmarks_of(config, pieces) == {}
    assert "callbacks.code_eval.tasks: infilling is left out: the tokenizer of this checkpoint has no" in caplog.text
