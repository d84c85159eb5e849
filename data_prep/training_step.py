"""A step of a training run traced to its files: which samples its global batch holds, and what is in them."""

from pathlib import Path

import numpy as np
from sample_text import printable, render

from codelm.config.load import load_config
from codelm.data.packing.trace import documents_of_sample
from codelm.data.reading.fetch import is_remote
from codelm.data.reading.gaps import Gaps
from codelm.data.reading.mixture import REPLAY
from codelm.errors import DataError
from codelm.tokenizer import load_tokenizer
from codelm.train.data import build_training_data
from codelm.train.roll_backs import read_roll_backs


def show_step(file: str, overrides: list[str], step: int, with_text: bool) -> None:
    """Print the samples of a step's global batch, each with its files; step 1 is the first."""
    if step < 1:
        raise DataError(f"--step {step}: the first step of a run is 1")
    config = load_config("train", file, overrides)
    tokenizer = load_tokenizer(config.tokenizer.path)
    dataset = build_training_data(config, tokenizer).dataset
    batch = config.global_train_batch_size
    print(f"──── step {step}: {batch} samples of {config.max_seq_len} tokens")
    gaps = Gaps.of(roll_back.left_out for roll_back in read_roll_backs(Path(config.save_folder)))
    first = gaps.stream_batch(step - 1) * batch
    for position in range(first, first + batch):
        stream, sample = dataset.locate(position)
        source = config.train_data
        if stream.startswith(REPLAY) and config.train_data.replay is not None:
            source, stream = config.train_data.replay, stream.removeprefix(REPLAY)
        if is_remote(source.path):
            raise DataError(f"{source.path} is remote: copy it to this machine and set train_data.path to trace a step")
        print(f"──── position {position}: {source.path} {source.split}/{stream} sample {sample}")
        for part in documents_of_sample(source.path, source.split, stream, sample, config.max_seq_len):
            print(f"     {printable(part.origin)}  [tokens {part.first} to {part.end}]")
        if with_text:
            shown = dataset[position].numpy()
            tokens, mask = shown if shown.ndim == 2 else (shown, np.ones(len(shown), np.uint8))
            print(render(tokenizer, tokens, mask))
