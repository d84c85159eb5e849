"""Files that survive a power cut."""

import os
from pathlib import Path


def sync_to_disk(path: Path) -> None:
    """Return when the file's contents, or the folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
