"""Real code in small folders, git repositories made by git, and the configurations that read them."""

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from codelm.config.data import DataConfig

STDLIB = Path(sysconfig.get_path("stdlib"))
GIT = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_AUTHOR_DATE": "2020-01-01T00:00:00Z",
    "GIT_COMMITTER_DATE": "2020-01-01T00:00:00Z",
    "GIT_CONFIG_GLOBAL": os.devnull,
}

# A deadline would be a measure of what else the machine does.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def run_git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "init.defaultBranch=main", "-C", str(folder), *arguments]
    result = subprocess.run(command, env={**os.environ, **GIT}, check=True, capture_output=True)
    return result.stdout.decode(errors="replace").strip()


@pytest.fixture(scope="session")
def git() -> Callable[..., str]:
    """`git(folder, *arguments)` runs git there, untouched by the user's own settings, and returns what it printed."""
    return run_git


@pytest.fixture(scope="session")
def code_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 2 MB of the standard library and of Python's C headers."""
    folder = tmp_path_factory.mktemp("code")
    for package in ("asyncio", "email", "json", "xml"):
        shutil.copytree(STDLIB / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    headers = Path(sysconfig.get_path("include"))
    shutil.copytree(headers, folder / "include", ignore=lambda _, names: {n for n in names if n.startswith("pystrh")})
    (folder / "copy_of_json.py").write_bytes((STDLIB / "json" / "__init__.py").read_bytes())
    return folder


@pytest.fixture
def data_config(code_folder: Path, tmp_path: Path) -> Callable[..., DataConfig]:
    """A configuration over `code_folder`, with a tokenizer of 400 tokens; keyword arguments replace its keys."""

    def make(**changes: Any) -> DataConfig:
        settings: dict[str, Any] = {
            "run_name": "test",
            "sources": {"code": {"path": str(code_folder), "licence": "PSF-2.0"}},
            "split": {"validation": 0.1},
            "tokenizer": {"train": {"vocab_size": 400, "sample_bytes": 150_000}},
            "max_seq_len": 64,
            "shard_bytes": 100_000,
            "output_folder": str(tmp_path / "output"),
            "num_workers": 1,
        }
        return DataConfig.model_validate({**settings, **changes})

    return make
