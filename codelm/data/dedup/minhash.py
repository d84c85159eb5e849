"""MinHash signatures of texts: equal entries of two signatures estimate how much two texts have in common.

A text is the set of its shingles: every `ngram` tokens in a row, a token being a run of ASCII letters, digits,
underscores and characters beyond ASCII. (BigCode's near-duplicate detection takes the latter for separators, and so
takes a user interface's Arabic words for a copy of its Persian ones.) Its signature is the least value of the shingles'
hashes under each of `num_permutations` orders, and two texts agree in an order with the probability of their sets'
Jaccard similarity (Broder, "On the resemblance and containment of documents", 1997).

Many texts are hashed at once, without a Python loop over tokens: what is no token is squeezed to one separator, a
shingle is a span of the bytes that are left, and a span's hash is the difference of two prefix sums. All arithmetic is
on integers that wrap, and all constants are computed here, so that signatures are the same on every machine.
"""

import functools
import math
from collections.abc import Iterable

import numpy as np

from codelm.config.cleaning import NearDuplicatesSection
from codelm.data.permutation import mix_key

NO_SIGNATURE = np.uint32(0xFFFFFFFF)
"""Every entry of the row of a text that is too short to have a signature."""

_GROUP_BYTES = 1 << 18  # hashed at once: some 40 bytes of arrays a byte of text, which the caches nearly hold
_BLOCK = 1 << 15  # shingles put in an order at once
_BASE = 0x9E3779B97F4A7C15
_BASE_INVERSE = pow(_BASE, -1, 1 << 64)
_MIXER = np.uint64(0xBF58476D1CE4E5B9)
_HALF = np.uint64(32)


class Signer:
    """Collects texts and computes their signatures, some hundred kilobytes at a time."""

    def __init__(self, section: NearDuplicatesSection) -> None:
        self._section = section
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._done: list[np.ndarray] = []

    def add(self, text: str) -> None:
        data = text.encode("utf-8", "surrogatepass").translate(_separators_as_zero())
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= _GROUP_BYTES:
            self._sign()

    def signatures(self) -> np.ndarray:
        """The signatures of the texts in the order they were added, uint32 (texts, num_permutations).

        Texts of fewer than `min_tokens` (or `ngram`) tokens have NO_SIGNATURE in every column.
        """
        self._sign()
        return np.concatenate([np.empty((0, self._section.num_permutations), np.uint32), *self._done])

    def _sign(self) -> None:
        if not self._waiting:
            return
        shingles, tokens = _shingles(self._waiting, self._section.ngram)
        number = np.maximum(tokens - self._section.ngram + 1, 0)
        rows = np.full((len(tokens), self._section.num_permutations), NO_SIGNATURE)
        rows[number > 0] = _least(shingles, number[number > 0], self._section.num_permutations)
        rows[tokens < self._section.min_tokens] = NO_SIGNATURE
        self._done.append(rows)
        self._waiting, self._waiting_bytes = [], 0


def signatures(texts: Iterable[str], section: NearDuplicatesSection) -> np.ndarray:
    """The signatures of texts, uint32 (texts, num_permutations); see `Signer`."""
    signer = Signer(section)
    for text in texts:
        signer.add(text)
    return signer.signatures()


def has_signature(signatures: np.ndarray) -> np.ndarray:
    """Marks the texts that were long enough, bool (n,)."""
    return (signatures != NO_SIGNATURE).any(axis=1)


def similarity(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The estimated Jaccard similarity of each row of `left` with the same row of `right`, float64 (n,)."""
    return (left == right).mean(axis=1)


@functools.lru_cache
def optimal_bands(threshold: float, num_permutations: int, missed: float = 0.5) -> tuple[int, int]:
    """Bands and rows a band, for which pairs are told apart best at a Jaccard similarity of `threshold`.

    A pair of similarity s shares a bucket with probability 1 - (1 - s^rows)^bands. What is minimised is the area of the
    pairs found below the threshold, times 1 - missed, and of those missed above it, times `missed` (the rule of
    datasketch and of BigCode, whose weights are both 0.5).
    """
    points = (np.arange(1000) + 0.5) / 1000
    below, above = points * threshold, threshold + points * (1 - threshold)
    best = (math.inf, 0, 0)
    for rows in range(1, num_permutations + 1):
        for bands in range(1, num_permutations // rows + 1):
            found = threshold * float(np.mean(1 - (1 - below**rows) ** bands))
            lost = (1 - threshold) * float(np.mean((1 - above**rows) ** bands))
            best = min(best, ((1 - missed) * found + missed * lost, bands, rows))
    return best[1:]


def band_hashes(signatures: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """A hash of each band of each signature, uint64 (bands, documents)."""
    hashes = np.zeros((bands, len(signatures)), dtype=np.uint64)
    for band in range(bands):
        for row in range(rows):
            # Odd factors, modulo 2^64: two bands that differ collide once in some 2^64 times.
            hashes[band] += signatures[:, band * rows + row].astype(np.uint64) * np.uint64(mix_key(4, row) | 1)
        hashes[band] ^= hashes[band] >> np.uint64(32)
        hashes[band] *= np.uint64(mix_key(5) | 1)
    return hashes


@functools.cache
def _separators_as_zero() -> bytes:
    word = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
    return bytes(byte if byte in word or byte >= 128 else 0 for byte in range(256))


@functools.cache
def _byte_values() -> np.ndarray:
    """A random number for each byte: texts cannot be built whose hashes collide as those of a plain polynomial do."""
    return np.array([mix_key(1, byte) for byte in range(256)], dtype=np.uint64)


@functools.lru_cache(maxsize=2)
def _powers(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The powers 1 … size of the base and of its inverse modulo 2^64."""
    return np.cumprod(np.full(size, _BASE, np.uint64)), np.cumprod(np.full(size, _BASE_INVERSE, np.uint64))


@functools.cache
def _orders(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Odd factors and summands, uint32 (number,): each pair is a bijection of the 32-bit integers."""
    factors = [mix_key(2, index) >> 32 | 1 for index in range(number)]
    summands = [mix_key(3, index) >> 32 for index in range(number)]
    return np.array(factors, dtype=np.uint32), np.array(summands, dtype=np.uint32)


def _shingles(texts: list[bytes], ngram: int) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of all texts' shingles, uint32, text after text, and each text's number of tokens, int64 (texts,).

    In the texts every byte outside tokens is zero already.
    """
    data = np.frombuffer(b"\0".join(texts) + b"\0", dtype=np.uint8)
    in_token = data != 0
    kept = in_token.copy()
    kept[1:] |= in_token[:-1]  # with one separator behind each token
    text_ends = np.cumsum([len(text) + 1 for text in texts])
    tokens = np.diff(np.searchsorted(np.flatnonzero(kept & ~in_token), text_ends), prepend=0)

    data = data[kept]
    powers, inverses = _powers(1 << max(len(data) - 1, 1).bit_length())
    sums = np.zeros(len(data) + 1, dtype=np.uint64)
    np.cumsum(_byte_values()[data] * powers[: len(data)], out=sums[1:])
    ends = np.flatnonzero(data == 0)
    starts = np.concatenate([[0], ends + 1])[: len(ends)]

    text = np.repeat(np.arange(len(texts)), tokens)
    whole = np.flatnonzero(text[: max(len(text) - ngram + 1, 0)] == text[ngram - 1 :])
    first = starts[whole]
    # Divided by the power of its place, a span's hash is the same wherever it stands.
    hashes = (sums[ends[whole + ngram - 1]] - sums[first]) * inverses[first]
    hashes ^= hashes >> _HALF
    hashes *= _MIXER
    return (hashes >> _HALF).astype(np.uint32), tokens


def _least(shingles: np.ndarray, number: np.ndarray, orders: int) -> np.ndarray:
    """The least value of each text's shingles in every order, uint32 (texts, orders).

    `number` holds how many of the shingles are each text's; none has none.
    """
    starts = np.concatenate([[0], np.cumsum(number)])
    least = np.full((orders, len(number)), NO_SIGNATURE)
    values = np.empty(_BLOCK, dtype=np.uint32)
    for low in range(0, len(shingles), _BLOCK):
        block = shingles[low : low + _BLOCK]
        first = np.searchsorted(starts, low, side="right") - 1
        last = np.searchsorted(starts, low + len(block))
        within = np.maximum(starts[first:last] - low, 0)
        values = values[: len(block)]
        for order, (factor, summand) in enumerate(zip(*_orders(orders), strict=True)):
            np.multiply(block, factor, out=values)
            np.add(values, summand, out=values)
            mine = least[order, first:last]
            np.minimum(mine, np.minimum.reduceat(values, within), out=mine)
    return least.T
