"""The output folder while a corpus is being prepared: whose settings it has, and that one run alone writes it."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codelm.config.data import DataConfig
from codelm.data.contamination.sought import hashes_of
from codelm.data.manifest import MANIFEST_FILE, Manifest, load_manifest
from codelm.data.shards import write_atomically
from codelm.errors import DataError

WORK_FOLDER = ".work"
TOKENIZER_FOLDER = "tokenizer"
_SETTINGS_FILE = "settings.json"
_BENCHMARKS = "benchmarks_sha256"
"""Beside the settings: the files of problems that they name."""
_WITHOUT_EFFECT = ("output_folder", "engine", "num_workers")
_BEFORE_TOKENIZER = (
    "sources",
    "exclude_repositories",
    "languages",
    "notebooks",
    "filters",
    "licences",
    "secrets",
    "dedup",
    "decontamination",
)
"""The settings that the plan and the documents depend on; what comes later is decided anew by every run."""


@dataclass(frozen=True)
class Workspace:
    """The folders of one preparation."""

    output: Path

    @property
    def work(self) -> Path:
        return self.output / WORK_FOLDER

    @property
    def scratch(self) -> Path:
        return self.work / "scratch"

    @property
    def tokenizer(self) -> Path:
        return self.output / TOKENIZER_FOLDER


def settings_of(config: DataConfig) -> dict[str, Any]:
    """The settings that decide what is written."""
    return {key: value for key, value in config.model_dump(mode="json").items() if key not in _WITHOUT_EFFECT}


def find_finished(config: DataConfig) -> Manifest | None:
    """The manifest when the output folder holds this very corpus already, or None when it holds none.

    Raises:
        DataError: when it holds a corpus with other settings, a damaged one, or something else altogether.
    """
    output = Path(config.output_folder)
    if not (output / MANIFEST_FILE).exists():
        if output.exists() and not output.is_dir():
            raise DataError(f"output_folder: {output} is a file; name a folder")
        if output.is_dir() and not (output / WORK_FOLDER).is_dir() and any(output.iterdir()):
            raise DataError(f"output_folder: {output} is not empty and holds no prepared data; name another folder")
        return None
    manifest = load_manifest(output)
    if manifest.withdrawn:
        raise DataError(
            f"{output} holds a corpus that {', '.join(manifest.withdrawn)} was withdrawn from, and stays as it is;"
            " to prepare it anew, name another output_folder and put the repositories under exclude_repositories"
        )
    _refuse_others(manifest.settings, settings_of(config), f"{output} holds a finished corpus with other settings")
    kept_out = {one.given: one.sha256 for one in manifest.sought or ()}
    _refuse_changed(kept_out, hashes_of(config.decontamination.benchmarks), f"{output} holds a finished corpus")
    manifest.check(output)
    shutil.rmtree(output / WORK_FOLDER, ignore_errors=True)
    return manifest


@contextlib.contextmanager
def opened(config: DataConfig, shared: bool = False) -> Iterator[Workspace]:
    """The workspace of a new or a half-finished preparation, locked against a second run.

    With `shared`, others who share it may be at work beside this one.

    Raises:
        DataError: when another run writes it now, or a half-finished one has other settings.
    """
    space = Workspace(Path(config.output_folder))
    space.work.mkdir(parents=True, exist_ok=True)
    with (space.work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"another data_prep/main.py is writing {space.output}; wait for it to end") from None
        _claim(space, settings_of(config), hashes_of(config.decontamination.benchmarks))
        if not shared:
            shutil.rmtree(space.scratch, ignore_errors=True)
        space.scratch.mkdir(exist_ok=True)
        yield space


def discard(space: Workspace) -> None:
    """Leave nothing behind of a preparation that cannot succeed."""
    shutil.rmtree(space.work, ignore_errors=True)
    with contextlib.suppress(OSError):
        space.output.rmdir()


def _claim(space: Workspace, settings: dict[str, Any], benchmarks: dict[str, str]) -> None:
    file = space.work / _SETTINGS_FILE
    if file.exists():
        stored = json.loads(file.read_text(encoding="utf-8"))
        before = stored.pop(_BENCHMARKS, {})
        binding = None if space.tokenizer.exists() else _BEFORE_TOKENIZER
        what = f"{space.output} holds a half-finished corpus with other settings"
        _refuse_others(stored, settings, what, binding)
        _refuse_changed(before, benchmarks, f"{space.output} holds a half-finished corpus")
    write_atomically(file, json.dumps({**settings, _BENCHMARKS: benchmarks}, indent=1).encode())


def _refuse_changed(before: dict[str, str], now: dict[str, str], what: str) -> None:
    changed = [given for given, digest in now.items() if before.get(given, digest) != digest]
    if changed:
        raise DataError(
            f"{what} that an earlier {changed[0]} was kept out of: that file has changed since (it was built anew?);"
            " name another output_folder, or delete this one"
        )


def _refuse_others(
    stored: dict[str, Any], settings: dict[str, Any], what: str, binding: tuple[str, ...] | None = None
) -> None:
    before, now = _flat(stored), _flat(settings)
    keys = [key for key in {**before, **now} if binding is None or key.split(".")[0] in binding]
    changed = [key for key in keys if before.get(key) != now.get(key)]
    if changed:
        shown = [f"{key} was {json.dumps(before.get(key))}, now {json.dumps(now.get(key))}" for key in changed[:4]]
        more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
        raise DataError(f"{what} ({'; '.join(shown)}{more}); name another output_folder, or delete this one")


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def cpu_count() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
