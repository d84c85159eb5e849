"""Checkpoints in an object store, or anything else that fsspec opens by a URL: whole or absent there too.

A checkpoint's files are uploaded first and its `files.json` last, so that one with a `files.json` is whole.
"""

import json
import logging
from pathlib import Path
from typing import Any

from codelm.errors import CheckpointError, EnvironmentFailure
from codelm.train.checkpoints.folder import batch_of, downloading, remove
from codelm.train.checkpoints.hashes import HASHES, damage, read_hashes
from codelm.train.checkpoints.policy import Kept, Policy
from codelm.train.checkpoints.run_file import RUN_FILE, metric_of

log = logging.getLogger(__name__)

_DRIVERS = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "oci": "ocifs"}


class RemoteFolder:
    """A run's checkpoints under a URL."""

    def __init__(self, url: str) -> None:
        """Open the URL's file system, without reaching for it yet.

        Raises:
            EnvironmentFailure: its driver is not installed, or there is none.
        """
        import fsspec  # only a run that uploads needs it

        self.url = url
        scheme = url.split("://")[0]
        try:
            self.files, self.root = fsspec.url_to_fs(url)
        except ImportError:
            driver = _DRIVERS.get(scheme, "the fsspec driver of that protocol")
            raise EnvironmentFailure(
                f"save_remote: {url} needs {driver}, which is not installed; pip install {driver}"
            ) from None
        except ValueError as error:
            raise EnvironmentFailure(f"save_remote: {url} cannot be opened ({error})") from None

    def whole_checkpoints(self) -> list[str]:
        """The names of the checkpoints that were uploaded in whole, by their batches."""
        # A store remembers what it listed; another machine may have written since.
        self.files.invalidate_cache()
        if not self.files.exists(self.root):
            return []
        names = {Path(path).name for path in self.files.ls(self.root, detail=False)}
        batches = {batch: name for name in names if (batch := batch_of(name)) is not None}
        return [name for _, name in sorted(batches.items()) if self.files.exists(self._at(name, HASHES))]

    def upload(self, checkpoint: Path) -> None:
        """Copy a checkpoint there, its `files.json` last."""
        for path in [*read_hashes(checkpoint), HASHES]:
            self._put(checkpoint / path, self._at(checkpoint.name, path))

    def upload_file(self, file: Path, *within: str) -> None:
        """Copy a file of the save_folder, or of the folder `within` it, there."""
        self._put(file, self._at(*within, file.name))

    def prune(self, policy: Policy, trusted: int | None = None) -> None:
        """Remove what the policy does not keep, each `files.json` first; `trusted` as in `Policy.to_remove`."""
        found = []
        for name in self.whole_checkpoints():
            run = json.loads(self.files.cat_file(self._at(name, RUN_FILE)))
            found.append(Kept(batch_of(name) or 0, metric_of(run, policy.best)))
        for name in self.whole_checkpoints():
            if batch_of(name) in policy.to_remove(found, trusted):
                self._remove(name)

    def remove_after(self, batch: int) -> None:
        """Remove all checkpoints of more batches."""
        for name in self.whole_checkpoints():
            if (batch_of(name) or 0) > batch:
                self._remove(name)

    def download_newest(self, save_folder: Path) -> Path | None:
        """Copy the newest whole checkpoint into a folder, and the run's metrics; None where there is none.

        Raises:
            CheckpointError: none of those there arrives whole.
        """
        names = self.whole_checkpoints()
        for name in reversed(names):
            target = save_folder / name
            arriving = downloading(target)
            remove(arriving)
            self._get_all(name, arriving)
            problem = damage(arriving)
            if problem is None:
                arriving.rename(target)
                return target
            log.warning("%s/%s is torn (%s); taking the one before it", self.url, name, problem)
            remove(arriving)
        if names:
            raise CheckpointError(
                f"none of the {len(names)} checkpoints in {self.url} is whole; remove them, or restore one"
            )
        return None

    def download_file(self, target: Path) -> None:
        """Copy a file of the save_folder back, if it is there."""
        source = self._at(target.name)
        if self.files.exists(source):
            self.files.get_file(source, str(target))

    def _get_all(self, name: str, arriving: Path) -> None:
        arriving.mkdir(parents=True)
        self.files.get_file(self._at(name, HASHES), str(arriving / HASHES))
        try:
            files = read_hashes(arriving)
        except ValueError:
            return
        for path in files:
            if ".." in Path(path).parts or Path(path).is_absolute():
                raise CheckpointError(f"{self.url}/{name}/{HASHES} names {path}, which is no file of its own folder")
            (arriving / path).parent.mkdir(parents=True, exist_ok=True)
            if self.files.exists(self._at(name, path)):
                self.files.get_file(self._at(name, path), str(arriving / path))

    def _remove(self, name: str) -> None:
        self.files.rm_file(self._at(name, HASHES))
        self.files.rm(self._at(name), recursive=True)

    def _put(self, source: Path, target: str) -> None:
        self.files.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
        self.files.put_file(str(source), target)

    def _at(self, *parts: str) -> Any:
        return "/".join([self.root.rstrip("/"), *parts])
