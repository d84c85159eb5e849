"""The keys and values of a batch whose rows come and go: one buffer a layer, written in place.

    columns     start            end
    row 0     . [x  x  x  x  x  x] .     every row ends in the same column, which the next token is written behind;
    row 1     . .  .  [x  x  x  x] .     what lies left of a row's own first column is hidden by the attention mask.
    row 2     . .  [x  x  x  x  x] .     A model sees the columns from `start`, the first of the longest row, to `end`.

A row joins by having its prompt's keys and values written left of `end`, and leaves by having the last row moved into
its place: no other row is touched. Rotary positions are inside the keys already and ALiBi knows only distances, so the
column that a token lies in means nothing to a model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

_ROOM = 128
"""Columns to allocate beyond what is in use."""


@dataclass(frozen=True)
class Prefix:
    """A prompt that the model has read, to be continued any number of times.

    Attributes:
        keys: one `(heads, length, head_dim)` for each layer; so are `values`.
        logits: of the token after the prompt, `(vocab,)`.
        length: tokens of the prompt.
    """

    keys: Sequence[Tensor]
    values: Sequence[Tensor]
    logits: Tensor
    length: int


class _Layer(DynamicLayer):
    """One layer's buffer `(rows, heads, columns, head_dim)`; `keys` and `values` are views of the part in use."""

    def __init__(self, key: Tensor, value: Tensor, rows: int, columns: int) -> None:
        super().__init__()
        self.lazy_initialization(key, value)
        self.rows, self.start, self.end = 0, 0, 0
        # Zeros, for what a mask hides is still multiplied by 0, and 0 times whatever lies in fresh memory may be NaN.
        self.key_buffer = key.new_zeros(rows, key.shape[0], columns, key.shape[2])
        self.value_buffer = value.new_zeros(rows, value.shape[0], columns, value.shape[2])
        self._show()

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor | None = None) -> None:
        self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True

    def _show(self) -> None:
        used = (slice(self.rows), slice(None), slice(self.start, self.end))
        self.keys, self.values = self.key_buffer[used], self.value_buffer[used]

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append the next tokens of all rows, `(rows, heads, new, head_dim)`, and return all keys and values."""
        new = slice(self.end, self.end + key_states.shape[2])
        self.key_buffer[: self.rows, :, new] = key_states
        self.value_buffer[: self.rows, :, new] = value_states
        self.end = new.stop
        self._show()
        return self.keys, self.values  # pyright: ignore[reportReturnType]

    def get_seq_length(self) -> int:
        return self.end - self.start

    def put(self, row: int, key: Tensor, value: Tensor) -> None:
        """Write a prompt's keys and values `(heads, length, head_dim)` left of `end`."""
        columns = slice(self.end - key.shape[1], self.end)
        self.key_buffer[row, :, columns] = key
        self.value_buffer[row, :, columns] = value

    def move(self, source: int, target: int, first: int) -> None:
        """Copy a row's columns from `first` on over another row."""
        for buffer in (self.key_buffer, self.value_buffer):
            buffer[target, :, first : self.end] = buffer[source, :, first : self.end]

    def shift(self, start: int, columns: int) -> None:
        """Let the part in use begin at `start`, in a buffer of so many columns."""
        length = self.end - self.start
        for name in ("key_buffer", "value_buffer"):
            old: Tensor = getattr(self, name)
            used = old[: self.rows, :, self.start : self.end]
            if columns == old.shape[2]:
                used, new = used.clone(), old
            else:
                new = old.new_zeros(*old.shape[:2], columns, old.shape[3])
            new[: self.rows, :, start : start + length] = used
            setattr(self, name, new)
        self.start, self.end = start, start + length


class RowCache(Cache):
    """A cache of transformers, for any model whose layers keep every key: rows join and leave while it is in use.

    Args:
        like: what the keys and values of this model look like.
        rows: at most so many at once.
    """

    def __init__(self, like: Prefix, rows: int) -> None:
        self._columns = like.length + _ROOM
        self._firsts: list[int] = []
        self._end = 0
        self._layers = [
            _Layer(key, value, rows, self._columns) for key, value in zip(like.keys, like.values, strict=True)
        ]
        super().__init__(layers=list(self._layers))

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [self._end - first for first in self._firsts]

    def add(self, prefix: Prefix) -> None:
        """Let a row join, as the last one."""
        if not self._firsts:
            self._place(0, 0, 0)
        if self._end < prefix.length:
            self._make_room(prefix.length)
        for layer, key, value in zip(self._layers, prefix.keys, prefix.values, strict=True):
            layer.put(len(self._firsts), key, value)
        self._firsts.append(self._end - prefix.length)
        self._place(len(self._firsts), min(self._firsts), self._end)

    def remove(self, row: int) -> None:
        """Let a row leave; the last row takes its number."""
        last = self._firsts.pop()
        if row < len(self._firsts):
            for layer in self._layers:
                layer.move(len(self._firsts), row, last)
            self._firsts[row] = last
        self._place(len(self._firsts), min(self._firsts, default=self._end), self._end)

    def next_column(self) -> None:
        """Make sure of a column for the next token of every row; the caller then runs the model once."""
        if self._end == self._columns:
            self._make_room(0)
        self._end += 1

    def padding(self) -> list[int] | None:
        """How many columns in front of each row the model must not look at; None when all rows are equally long."""
        start = min(self._firsts)
        padding = [first - start for first in self._firsts]
        return padding if any(padding) else None

    def _place(self, rows: int, start: int, end: int) -> None:
        self._end = end
        for layer in self._layers:
            layer.rows, layer.start, layer.end = rows, start, end

    def _make_room(self, length: int) -> None:
        """Move the rows so that a prompt of `length` fits left of their end, and more tokens right of it."""
        start = min(self._firsts, default=self._end)
        used = self._end - start
        new_start = max(0, length - used)
        self._columns = max(self._columns, new_start + used + max(_ROOM, used // 2))
        for layer in self._layers:
            layer.shift(new_start, self._columns)
        self._firsts = [first - start + new_start for first in self._firsts]
        self._end = new_start + used


def padding_mask(padding: Sequence[int], length: int, device: torch.device) -> Tensor:
    """1 where a row has a token, 0 in front of it: int64 `(rows, length)`."""
    columns = torch.arange(length, device=device)
    return (columns >= torch.tensor(padding, device=device)[:, None]).long()
