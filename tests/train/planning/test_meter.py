"""What the meter notes of known arithmetic, with contents and without."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from codelm.train.planning.meter import Meter, Operation


def test_bytes_alive_and_their_peak() -> None:
    with Meter() as meter:
        a = torch.ones(1000)
        b = a + a
        c = (a * b) + 1  # the product is gone when the sum is there
        assert (meter.live, meter.peak) == (3 * 4000, 4 * 4000)
        view = c.view(10, 100)
        assert meter.live == 3 * 4000
        del a, b, c
        assert meter.live == 4000
        del view
    assert meter.live == 0


def test_matrix_products_and_what_they_move() -> None:
    a, b = torch.ones(8, 16), torch.ones(16, 32)
    with Meter() as meter:
        a @ b
    (operation,) = meter.operations
    assert operation == Operation("matmul", 2 * 8 * 16 * 32, 4 * (8 * 16 + 16 * 32 + 8 * 32))


def test_picking_a_few_rows_does_not_read_the_whole_table() -> None:
    table, ids = torch.ones(10_000, 8), torch.zeros(5, dtype=torch.long)
    with Meter() as meter:
        torch.nn.functional.embedding(ids, table)
    (operation,) = meter.operations
    assert operation.bytes == 2 * 4 * 5 * 8


@pytest.mark.parametrize("layers", [1, 3])
def test_without_contents_it_notes_the_same(layers: int) -> None:
    def peak() -> tuple[int, int]:
        model = torch.nn.Sequential(*(torch.nn.Linear(64, 64) for _ in range(layers)))
        with Meter() as meter:
            meter.leave_out(model.parameters())
            model(torch.ones(256, 64)).sum().backward()
        return meter.peak, sum(meter.operations.values())

    real = peak()
    with FakeTensorMode():
        assert peak() == real
