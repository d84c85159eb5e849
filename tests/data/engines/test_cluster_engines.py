"""Preparing on many machines: Slurm's job scripts and Ray's tasks leave the same bytes as one process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from codelm.config.data import DataConfig
from codelm.data.engines.ray_engine import RayEngine
from codelm.data.manifest import load_manifest
from codelm.data.prepare import prepare, prepare_stage
from codelm.errors import DataError, EnvironmentFailure

ROOT = Path(__file__).parents[3]

# Stands in for the scheduler alone: runs each job at once, in the order of submission, as Slurm would run it.
SBATCH = """#!/bin/bash
set -e
first=0 last=0
while [[ $1 == --* ]]; do
  case $1 in
    --array=*) range=${1#--array=}; first=${range%-*} last=${range#*-} ;;
    --dependency=afterok:*) test -e "$JOBS/${1#--dependency=afterok:}" ;;
  esac
  shift
done
number=$(ls "$JOBS" | wc -l)
for task in $(seq $first $last); do SLURM_ARRAY_TASK_ID=$task bash "$@" >&2; done
touch "$JOBS/$number"
echo "$number;cluster"
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def settings_of(code_folder: Path, output: Path) -> dict:
    return {
        "run_name": "test",
        "sources": {"code": {"path": str(code_folder), "licence": "PSF-2.0"}},
        "split": {"validation": 0.1},
        "tokenizer": {"train": {"vocab_size": 400, "sample_bytes": 150_000}},
        "max_seq_len": 64,
        "output_folder": str(output),
        "num_workers": 1,
    }


@pytest.fixture(scope="module")
def by_one_process(tmp_path_factory: pytest.TempPathFactory, code_folder: Path) -> dict[str, bytes]:
    output = tmp_path_factory.mktemp("one") / "output"
    prepare(DataConfig.model_validate(settings_of(code_folder, output)))
    return contents(output)


@pytest.mark.slow
def test_the_scripts_for_slurm_prepare_the_same_corpus(
    tmp_path: Path, code_folder: Path, by_one_process: dict[str, bytes]
) -> None:
    settings = {**settings_of(code_folder, tmp_path / "output"), "engine": "slurm", "num_workers": 2}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "bin").mkdir()
    (tmp_path / "jobs").mkdir()
    (tmp_path / "bin" / "sbatch").write_text(SBATCH)
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "JOBS": str(tmp_path / "jobs")}
    recipe = [sys.executable, str(ROOT / "data_prep" / "main.py"), str(tmp_path / "data.yaml")]
    written = subprocess.run(recipe, capture_output=True, text=True, check=True, env=environment)
    script = tmp_path / "output.slurm" / "submit.sh"
    assert str(script) in written.stdout
    assert not (tmp_path / "output").exists()
    submitted = subprocess.run(
        [script, "--partition=cpu"], capture_output=True, text=True, env=environment, check=False
    )
    assert submitted.returncode == 0, submitted.stderr
    assert len(list((tmp_path / "jobs").iterdir())) == 6
    assert contents(tmp_path / "output") == by_one_process


def test_a_stage_before_its_time_is_refused(tmp_path: Path, code_folder: Path) -> None:
    config = DataConfig.model_validate(settings_of(code_folder, tmp_path / "output"))
    with pytest.raises(DataError, match="the stage list has not ended"):
        prepare_stage(config, "read", 0, 2)
    prepare_stage(config, "list", 0, 1)
    with pytest.raises(DataError, match=r"the stage read has not ended, 1 of 1 partitions are missing"):
        prepare_stage(config, "select", 0, 1)
    prepare_stage(config, "read", 1, 2)
    with pytest.raises(DataError, match="the stage read has not ended"):
        prepare_stage(config, "select", 0, 1)
    prepare_stage(config, "read", 0, 2)
    with pytest.raises(DataError, match="the stage select has not ended"):
        prepare_stage(config, "tokenise", 0, 2)
    prepare_stage(config, "select", 0, 1)
    with pytest.raises(DataError, match="the stage tokenise has not ended"):
        prepare_stage(config, "pack", 0, 2)


@pytest.mark.parametrize("shard", ["2/2", "x", "1", "-1/3"])
def test_a_shard_that_is_none_is_refused(tmp_path: Path, code_folder: Path, shard: str) -> None:
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(settings_of(code_folder, tmp_path / "output")))
    recipe = [sys.executable, str(ROOT / "data_prep" / "main.py"), str(tmp_path / "data.yaml")]
    run = subprocess.run([*recipe, "--stage", "read", f"--shard={shard}"], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert f"--shard {shard}: write the number of the part" in run.stderr


@pytest.fixture(scope="module")
def two_nodes():
    """A Ray cluster of two nodes on this machine."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    yield ray
    ray.shutdown()
    cluster.shutdown()


def mark(task: tuple[str, int]) -> None:
    """Writes the node it ran on; the worker of task 3 is killed the first time."""
    import ray

    folder, number = Path(task[0]), task[1]
    if number == 3 and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / f"{number}").write_text(ray.get_runtime_context().get_node_id())


def fail(task: int) -> None:
    if task == 2:
        raise OSError(28, "No space left on device", "file 2")


@pytest.mark.slow
def test_ray_runs_every_task_on_two_nodes_and_survives_a_killed_worker(two_nodes, tmp_path: Path) -> None:
    assert len(two_nodes.nodes()) == 2
    with RayEngine(None) as engine:
        done = list(engine.each(mark, [(str(tmp_path), number) for number in range(12)]))
    assert done == list(range(12))
    assert (tmp_path / "killed").exists()
    assert len({(tmp_path / str(number)).read_text() for number in range(12)}) == 2


@pytest.mark.slow
def test_an_error_in_a_ray_task_is_the_functions_own(two_nodes) -> None:
    with RayEngine(2) as engine, pytest.raises(OSError, match="file 2") as caught:
        list(engine.each(fail, range(4)))
    assert (caught.value.errno, caught.value.filename) == (28, "file 2")


@pytest.mark.slow
def test_ray_prepares_the_same_corpus(
    two_nodes, tmp_path: Path, code_folder: Path, by_one_process: dict[str, bytes]
) -> None:
    settings = {**settings_of(code_folder, tmp_path / "output"), "engine": "ray", "num_workers": None}
    prepare(DataConfig.model_validate(settings), partition_bytes=150_000)
    assert load_manifest(tmp_path / "output").splits
    assert contents(tmp_path / "output") == by_one_process


def test_without_ray_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EnvironmentFailure, match="pip install ray"):
        RayEngine(None)
