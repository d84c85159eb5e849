"""Which documents are held out, and in which order documents are drawn: by hashes of their contents.

So neither depends on the order of files, on other files, or on the number of workers, and copies of a file are never
on both sides of the split.
"""

import hashlib
from typing import Literal

import numpy as np

Purpose = Literal["split", "limit", "tokenizer"]


def draw(digests: np.ndarray, seed: int, purpose: Purpose) -> np.ndarray:
    """A number for each document from its digest, uint64 (n,), independent for each purpose; digests uint64 (n, 2)."""
    key = hashlib.blake2b(f"{purpose} {seed}".encode(), digest_size=16).digest()
    low, high = np.frombuffer(key, dtype="<u8")
    return _mix(digests[:, 0] ^ low) ^ _mix(digests[:, 1] ^ high)


def held_out(digests: np.ndarray, seed: int, share: float) -> np.ndarray:
    """Which documents belong to the validation split, bool (n,)."""
    return draw(digests, seed, "split") < np.uint64(share * 2.0**64)


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele et al. 2014): every input bit changes every output bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
