"""A seeded permutation of 0 … n-1 that is computed, not stored: any position in constant time and memory.

A balanced Feistel network over the smallest even number of bits that holds n, walked until the value falls below n
(Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002). It shuffles; it does not encrypt.
`permute` and `mix_key` take single integers, `permute_all` and `mix_keys` arrays, with the same results.
"""

import numpy as np

_MASK = (1 << 64) - 1
_ROUNDS = 4


def _mix(value: int) -> int:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): a bijection of 64-bit integers."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


_ADDED, _FIRST, _SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)


def _mix_array(value: np.ndarray) -> np.ndarray:
    """`_mix` for a uint64 array, whose arithmetic is modulo 2^64 by itself."""
    value = value + _ADDED
    value ^= value >> _30
    value *= _FIRST
    value ^= value >> _27
    value *= _SECOND
    value ^= value >> _31
    return value


def mix_key(*parts: int) -> int:
    """One 64-bit key from several integers."""
    key = 0
    for part in parts:
        key = _mix(key ^ (part & _MASK))
    return key


def mix_keys(key: np.ndarray | int, part: np.ndarray) -> np.ndarray:
    """`mix_key(key, part)` for arrays, both of shape (n,), or one key for all; uint64."""
    keys = np.asarray(key, np.uint64) + np.zeros(len(part), np.uint64)
    return _mix_array(_mix_array(keys) ^ part.astype(np.uint64))


def permute(index: int, size: int, key: int) -> int:
    """The image of `index` under the permutation of range(size) that `key` names."""
    if not 0 <= index < size:
        raise IndexError(f"{index} is outside 0 … {size - 1}")
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    value = index
    while True:
        left, right = value >> half, value & low
        for turn in range(_ROUNDS):
            left, right = right, left ^ (_mix(key ^ _mix(right + (turn << 32))) & low)
        value = (left << half) | right
        if value < size:
            return value


def permute_all(indices: np.ndarray, sizes: np.ndarray | int, keys: np.ndarray | int) -> np.ndarray:
    """`permute` for arrays: the images of `indices`, shape (n,), int64; a size and a key each, or one for all."""
    count = len(indices)
    value = indices.astype(np.uint64)
    size = np.broadcast_to(np.asarray(sizes, np.uint64), count)
    key = np.broadcast_to(np.asarray(keys, np.uint64), count)
    if (value >= size).any():
        raise IndexError(f"an index is outside its range: {indices[value >= size][0]}")
    # The bits of size - 1, exactly: a float64 holds integers below 2^53, and no corpus has more samples.
    bits = np.frexp((size - 1).astype(np.float64))[1]
    half = np.maximum(1, (bits + 1) // 2).astype(np.uint64)
    pending: np.ndarray | slice = slice(None)
    while True:
        value[pending] = _feistel(value[pending], half[pending], key[pending])
        outside = np.flatnonzero(value >= size)
        if not len(outside):
            return value.astype(np.int64)
        pending = outside


def _feistel(value: np.ndarray, half: np.ndarray, key: np.ndarray) -> np.ndarray:
    """One walk through the network, over twice `half` bits."""
    low = (np.uint64(1) << half) - np.uint64(1)
    left, right = value >> half, value & low
    for turn in range(_ROUNDS):
        left, right = right, left ^ (_mix_array(key ^ _mix_array(right + np.uint64(turn << 32))) & low)
    return (left << half) | right
