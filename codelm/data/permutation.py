"""A seeded permutation of 0 … n-1 that is computed, not stored: any position in constant time and memory.

A balanced Feistel network over the smallest even number of bits that holds n, walked until the value falls below n
(Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002). It shuffles; it does not encrypt.
"""

_MASK = (1 << 64) - 1
_ROUNDS = 4


def _mix(value: int) -> int:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): a bijection of 64-bit integers."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def mix_key(*parts: int) -> int:
    """One 64-bit key from several integers."""
    key = 0
    for part in parts:
        key = _mix(key ^ (part & _MASK))
    return key


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
