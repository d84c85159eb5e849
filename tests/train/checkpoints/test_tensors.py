"""Tensors saved in parts come back into any other parts; the files are plain safetensors."""

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from codelm.errors import CheckpointError
from codelm.train.checkpoints.hashes import fingerprint
from codelm.train.checkpoints.tensors import Part, StoredTensors, write_parts

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool]


def cut(name: str, whole: torch.Tensor, rows: list[int]) -> list[Part]:
    """A tensor in parts that begin at these rows."""
    bounds = sorted({0, *rows, len(whole)})
    shape = tuple(whole.shape)
    return [
        Part(name, (low, *[0] * (whole.ndim - 1)), shape, whole[low:high]) for low, high in itertools.pairwise(bounds)
    ]


def stored(*files: Path) -> StoredTensors:
    found = StoredTensors()
    for file in files:
        found.add_parts(file)
    return found


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_comes_back_to_the_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.randn(5, 3).mul(3).to(dtype)
    write_parts(tmp_path / "a.safetensors", cut("x", tensor, []))
    back = torch.zeros(5, 3, dtype=dtype)
    stored(tmp_path / "a.safetensors").fill("x", back)
    assert torch.equal(back, tensor)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 12), max_size=4), st.integers(0, 1))
def test_any_parts_on_two_ranks_make_the_whole(
    tmp_path_factory: pytest.TempPathFactory, rows: list[int], odd: int
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    tensor = torch.randn(12, 4)
    held = cut("x", tensor, rows)
    files = [folder / "0.safetensors", folder / "1.safetensors"]
    for rank, file in enumerate(files):
        write_parts(file, held[(rank + odd) % 2 :: 2])
    back = torch.zeros(12, 4)
    stored(*files).fill("x", back)
    assert torch.equal(back, tensor)


def test_numbers_and_single_values(tmp_path: Path) -> None:
    step = torch.tensor(7.0)
    write_parts(tmp_path / "a.safetensors", [Part("step", (), (), step)])
    back = torch.tensor(0.0)
    stored(tmp_path / "a.safetensors").fill("step", back)
    assert back == 7


def test_safetensors_itself_reads_the_file_and_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    odd, wide = torch.ones(3, dtype=torch.uint8), torch.randn(2, 2, dtype=torch.float64)
    written = write_parts(file, [*cut("odd", odd, []), *cut("wide", wide, [1])])
    found = load_file(file)
    assert set(found) == {"odd@0", "wide@0,0", "wide@1,0"}
    assert torch.equal(found["wide@1,0"], wide[1:])
    assert written == fingerprint(file)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    tensor = torch.randn(4, 2)
    write_parts(tmp_path / "a.safetensors", cut("x", tensor, [2])[:1])
    found = stored(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="lacks y"):
        found.fill("y", torch.zeros(4, 2))
    with pytest.raises(CheckpointError, match=r"x has shape \(4, 2\) in the checkpoint and \(4, 3\) in this run"):
        found.fill("x", torch.zeros(4, 3))
    with pytest.raises(CheckpointError, match="only a part of x"):
        found.fill("x", torch.zeros(4, 2))
