"""The cache of rows that come and go: what a model sees is what it would see of each row alone."""

import pytest
import torch

from codelm.model.kv_cache import Prefix, RowCache, padding_mask

HEADS, DIM = 2, 3


class Rows:
    """A cache of two layers, and beside it what each row must hold; a key tells its token by its value."""

    def __init__(self, rows):
        self.count = 0
        self.rows = rows
        self.expected = []
        self.cache = None

    def tokens(self, *shape):
        size = torch.Size(shape).numel()
        self.count += size
        return torch.arange(self.count - size, self.count).view(*shape).float()

    def add(self, length):
        layers = [self.tokens(HEADS, length, DIM) for _ in range(4)]
        prefix = Prefix(layers[:2], layers[2:], torch.zeros(1), length)
        self.cache = self.cache or RowCache(prefix, self.rows)
        self.cache.add(prefix)
        self.expected.append(layers)

    def remove(self, row):
        self.cache.remove(row)
        last = self.expected.pop()
        if row < len(self.expected):
            self.expected[row] = last

    def step(self):
        self.cache.next_column()
        seen = []
        for layer in range(2):
            key, value = (self.tokens(len(self.expected), HEADS, 1, DIM) for _ in range(2))
            seen.append(self.cache.update(key, value, layer))
            for row, layers in enumerate(self.expected):
                layers[layer] = torch.cat([layers[layer], key[row]], dim=1)
                layers[2 + layer] = torch.cat([layers[2 + layer], value[row]], dim=1)
        self.check(seen)

    def check(self, seen):
        lengths = [layers[0].shape[1] for layers in self.expected]
        assert self.cache.lengths == lengths
        assert self.cache.get_seq_length() == max(lengths)
        padding = self.cache.padding()
        assert (padding or [0] * len(lengths)) == [max(lengths) - length for length in lengths]
        assert padding is None or any(padding)
        for layer, (keys, values) in enumerate(seen):
            assert keys.shape == values.shape == (len(lengths), HEADS, max(lengths), DIM)
            for row, length in enumerate(lengths):
                assert torch.equal(keys[row, :, -length:], self.expected[row][layer])
                assert torch.equal(values[row, :, -length:], self.expected[row][2 + layer])
            # What a mask hides is still multiplied by zero.
            assert torch.isfinite(keys).all()


def test_rows_join_and_leave_at_any_time():
    rows = Rows(3)
    rows.add(5)
    rows.add(3)
    rows.step()
    rows.add(4)
    rows.step()
    rows.remove(0)  # the longest: what the others have in front of them is no longer seen
    rows.step()
    rows.add(2)
    rows.step()
    rows.remove(2)
    rows.remove(0)
    rows.step()


def test_a_prompt_longer_than_all_rows_may_join():
    rows = Rows(2)
    rows.add(2)
    rows.step()
    rows.add(300)
    rows.step()
    rows.remove(1)
    rows.step()


def test_a_cache_that_has_run_empty_is_used_again():
    rows = Rows(2)
    rows.add(3)
    rows.step()
    rows.remove(0)
    rows.add(200)
    rows.step()


@pytest.mark.parametrize("seed", range(4))
def test_a_thousand_steps_of_any_kind(seed):
    drawn = torch.Generator().manual_seed(seed)

    def below(bound):
        return int(torch.randint(bound, (), generator=drawn))

    rows = Rows(4)
    rows.add(7)
    for _ in range(1000):
        kind = below(12)
        if kind == 0 and len(rows.expected) < 4:
            rows.add(1 + below(40))
        elif kind == 1 and len(rows.expected) > 1:
            rows.remove(below(len(rows.expected)))
        else:
            rows.step()


def test_memory_follows_the_rows_in_use_not_the_tokens_ever_generated():
    rows = Rows(2)
    rows.add(10)
    for _ in range(40):
        for _ in range(25):
            rows.step()
        rows.add(10)
        rows.remove(0)
    assert rows.cache.layers[0].key_buffer.shape[2] < 200


def test_writing_a_token_copies_nothing():
    rows = Rows(1)
    rows.add(10)
    before = rows.cache.layers[0].key_buffer.data_ptr()
    for _ in range(50):
        rows.step()
    assert rows.cache.layers[0].key_buffer.data_ptr() == before
    assert rows.cache.layers[0].keys.data_ptr() == before


def test_the_mask_hides_what_is_in_front_of_a_row():
    mask = padding_mask([0, 2], 4, torch.device("cpu"))
    assert mask.tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]
