"""Small valid files of the three kinds, and a way to see the problems of a file as a list of lines."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from codelm.config import load_config
from codelm.errors import ConfigError

SMALL = {
    "train": """
        run_name: small
        max_seq_len: 512
        tokenizer:
          path: data/tokenizer
        model:
          name: replit_code
          d_model: 128
          n_heads: 4
          n_layers: 4
        train_data:
          path: data
          mixture:
            python: 0.5
            javascript: 0.5
        optimizer:
          name: lionw
          lr: 1e-4
        scheduler:
          name: cosine_with_warmup
          t_warmup: 10ba
        max_duration: 100ba
        global_train_batch_size: 8
        device_train_microbatch_size: 4
        save_folder: runs/small
        save_interval: 50ba
        """,
    "data": """
        run_name: small
        sources:
          here:
            path: src
        tokenizer:
          train:
            vocab_size: 1024
        max_seq_len: 512
        output_folder: data
        """,
    "eval": """
        run_name: small
        model:
          path: runs/small/latest
        tasks:
          humaneval:
            limit: 10
        output_folder: runs/eval
        """,
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`write(name, text)` makes a file in an empty working folder; a kind in place of the text makes its small YAML."""
    monkeypatch.chdir(tmp_path)

    def write_file(name: str, text: str | bytes) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, bytes):
            path.write_bytes(text)
        else:
            path.write_text(dedent(SMALL.get(text, text)).lstrip("\n"), encoding="utf-8")
        return name

    return write_file


@pytest.fixture
def problems(write: Callable[..., str]) -> Callable[..., list[str]]:
    """`problems(kind, file, *arguments)`: the lines that loading reports, none when it succeeds."""

    def lines(kind: str, path: str, *arguments: str) -> list[str]:
        try:
            load_config(kind, path, list(arguments))
        except ConfigError as error:
            return str(error).splitlines()
        return []

    return lines
