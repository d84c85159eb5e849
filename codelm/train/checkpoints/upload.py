"""Uploading finished checkpoints in the background: tried again when it fails, and training never waits for it."""

import logging
import threading
from pathlib import Path

from codelm.train.checkpoints.policy import Policy
from codelm.train.checkpoints.remote import RemoteFolder

log = logging.getLogger(__name__)

CARD = "README.md"

WAITS = (1.0, 5.0, 30.0, 120.0)
"""Seconds before each further attempt."""


def upload_late(url: str, checkpoint: Path, beside: tuple[str, ...]) -> None:
    """Upload what was written when a run's last checkpoint was up already; what fails here is a warning.

    Args:
        beside: names of files in the checkpoint's save_folder. Of the checkpoint, it is the model card.
    """
    try:
        remote = RemoteFolder(url)
        if checkpoint.name in remote.whole_checkpoints() and (checkpoint / CARD).exists():
            remote.upload_file(checkpoint / CARD, checkpoint.name)
        for name in beside:
            if (checkpoint.parent / name).exists():
                remote.upload_file(checkpoint.parent / name)
    except Exception as error:  # each store's driver has errors of its own
        log.warning("%s and %s were not uploaded to %s (%s)", CARD, ", ".join(beside), url, _short(error))


def _short(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


class Uploader:
    """One thread that uploads the newest finished checkpoint; one that is overtaken while it waits is left out."""

    def __init__(self, remote: RemoteFolder, policy: Policy, beside: Path, waits: tuple[float, ...] = WAITS) -> None:
        """`beside` is a file that goes along with each checkpoint: the run's metrics."""
        self.remote = remote
        self.policy = policy
        self.beside = beside
        self.waits = waits
        self.changed = threading.Condition()
        self.next: Path | None = None
        self.busy: Path | None = None
        self.trusted: int | None = None
        """The batches after which the weights are known to be good."""
        self.closing = False
        self.thread = threading.Thread(target=self._work, name="checkpoint-upload", daemon=True)
        self.thread.start()

    def submit(self, checkpoint: Path) -> None:
        """Upload a checkpoint as soon as the one before it is done."""
        with self.changed:
            self.next = checkpoint
            self.changed.notify()

    def in_use(self) -> set[Path]:
        """The checkpoints that must not be removed yet."""
        with self.changed:
            return {path for path in (self.next, self.busy) if path is not None}

    def take_back_to(self, batch: int) -> None:
        """Remove the uploaded checkpoints of more batches, whose weights are ruined; when nothing is being uploaded."""
        try:
            self.remote.remove_after(batch)
        except Exception as error:  # each store's driver has errors of its own
            log.warning(
                "the checkpoints after batch %d could not be removed from %s (%s); remove them before a run starts"
                " from there",
                batch, self.remote.url, _short(error),
            )  # fmt: skip

    def close(self, limit: float | None) -> None:
        """Finish what is begun, within so many seconds."""
        with self.changed:
            self.closing = True
            self.changed.notify()
        if self.in_use():
            log.info("waiting for the upload to %s", self.remote.url)
        self.thread.join(limit)
        left = self.in_use()
        if left:
            log.warning("%s was not uploaded to %s in time", ", ".join(map(str, left)), self.remote.url)

    def _work(self) -> None:
        while True:
            with self.changed:
                self.busy = None
                self.changed.wait_for(lambda: self.next is not None or self.closing)
                if self.next is None:
                    return
                self.busy, self.next = self.next, None
                checkpoint = self.busy
            self._upload(checkpoint)

    def _upload(self, checkpoint: Path) -> None:
        for wait in (*self.waits, None):
            try:
                self.remote.upload(checkpoint)
                if self.beside.exists():
                    self.remote.upload_file(self.beside)
                self.remote.prune(self.policy, self.trusted)
            except Exception as error:  # each store's driver has errors of its own
                problem = _short(error)
            else:
                log.info("uploaded %s to %s", checkpoint.name, self.remote.url)
                return
            if wait is None:
                log.warning(
                    "%s was not uploaded to %s (%s); it is still on this machine", checkpoint, self.remote.url, problem
                )
                return
            log.warning(
                "uploading %s to %s failed (%s); trying again in %g s", checkpoint.name, self.remote.url, problem, wait
            )
            with self.changed:
                if self.changed.wait_for(lambda: self.next is not None, timeout=wait):
                    return  # A newer one is finished: that one instead.
