"""Which documents are held out, and in which order documents are drawn: by hashes of their contents or names.

So neither depends on the order of files, on other files, or on the number of workers, and copies of a file are never
on both sides of the split.
"""

import hashlib
from datetime import UTC, datetime
from typing import Literal

import numpy as np

Purpose = Literal["split", "limit", "tokenizer"]


def draw(digests: np.ndarray, seed: int, purpose: Purpose) -> np.ndarray:
    """A number for each document from its digest, uint64 (n,), independent for each purpose; digests uint64 (n, 2)."""
    low, high = _key(f"{purpose} {seed}")
    return _mix(digests[:, 0] ^ low) ^ _mix(digests[:, 1] ^ high)


def draw_names(names: np.ndarray, seed: int) -> np.ndarray:
    """A number for each document from the hash of its repository's name, uint64 (n,)."""
    low, high = _key(f"repository {seed}")
    return _mix(names ^ low) ^ high


def share_below(numbers: np.ndarray, share: float) -> np.ndarray:
    """Which of the drawn numbers belong to a share of them, bool (n,)."""
    return numbers < np.uint64(share * 2.0**64)


def is_since(changed: np.ndarray, date: str) -> np.ndarray:
    """Which times (int64 seconds since 1970) are of a day, such as 2026-01-31 (UTC), or later; bool (n,).

    Raises:
        ValueError: when there is no such day.
    """
    return changed >= int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp())


def _key(text: str) -> np.ndarray:
    return np.frombuffer(hashlib.blake2b(text.encode(), digest_size=16).digest(), dtype="<u8")


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele et al. 2014): every input bit changes every output bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
