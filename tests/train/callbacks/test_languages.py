"""Shares and losses by language in a real run are those of the samples that it read."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from composer import Logger

from codelm.config.train import TrainConfig
from codelm.data.reading.gaps import Gaps
from codelm.model import loss as model_loss
from codelm.train.build import build_pieces
from codelm.train.callbacks.languages import LanguageMonitor
from codelm.train.run import train

Make = Callable[..., TrainConfig]


def rows(save_folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(save_folder) / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def steady(train_config: Make) -> TrainConfig:
    """Weights that hardly move, no dropout: every batch has the loss of the first weights."""
    return train_config(
        model={"name": "replit_code", "d_model": 32, "n_heads": 4, "n_layers": 2},
        optimizer={"name": "adamw", "lr": 1e-12},
        scheduler={"name": "constant_with_warmup"},
        callbacks={"language_monitor": {"interval": "4ba"}, "optimizer_monitor": {"interval": "2ba"}},
        eval_data={},
    )


def test_losses_by_language_are_those_of_its_samples(steady: TrainConfig) -> None:
    final = train(steady)
    found = [row for row in rows(steady.save_folder) if "loss/train/python" in row]
    assert [row["batch"] for row in found] == [4, 8]

    from codelm.model.pretrained import load

    model = load(final)[0]
    dataset = build_pieces(steady, 0, 1).data.dataset
    collate = build_pieces(steady, 0, 1).train_loader.collate_fn
    streams = dataset.order.schedule.streams
    for row, first in zip(found, (0, 16), strict=True):
        sums = {stream: [0.0, 0] for stream in streams}
        for position in range(first, first + 16):
            batch = collate([dataset[position]])
            counted = int((batch["labels"][:, 1:] != -100).sum())
            with torch.no_grad():
                loss = float(model(**batch).loss)
            sums[dataset.locate(position)[0]][0] += loss * counted
            sums[dataset.locate(position)[0]][1] += counted
        for stream, (nats, tokens) in sums.items():
            assert row[f"loss/train/{stream}"] == pytest.approx(nats / tokens, rel=1e-4), stream


def test_shares_are_those_of_the_positions(steady: TrainConfig) -> None:
    train(steady)
    dataset = build_pieces(steady, 0, 1).data.dataset
    streams = dataset.order.locate(np.arange(32)).streams
    found = [row for row in rows(steady.save_folder) if "mixture/python/share" in row]
    for row, first, last in zip(found, (0, 16), (16, 32), strict=True):
        for number, stream in enumerate(dataset.order.schedule.streams):
            assert row[f"mixture/{stream}/share"] == pytest.approx(float((streams[:last] == number).mean()))
            assert row[f"mixture/{stream}/recent_share"] == pytest.approx(float((streams[first:last] == number).mean()))


def test_data_that_a_roll_back_left_out_is_counted_nowhere(steady: TrainConfig) -> None:
    dataset = build_pieces(steady, 0, 1).data.dataset
    dataset.gaps = Gaps.of([(1, 3), (5, 6)])
    monitor = LanguageMonitor(dataset, 4)
    size = steady.global_train_batch_size
    read = [0, 3, 4, 6, 7]
    for number, batch in enumerate(read):
        rows = torch.zeros(size, 256, dtype=torch.long)
        state: Any = SimpleNamespace(timestamp=SimpleNamespace(batch=number), batch={"input_ids": rows})
        monitor.before_train_batch(state, Logger(state))
        positions = np.arange(batch * size, (batch + 1) * size)
        assert monitor.rows.tolist() == dataset.order.locate(positions).streams.tolist()
        done = np.concatenate([np.arange(one * size, (one + 1) * size) for one in read[: number + 1]])
        counts = np.bincount(dataset.order.locate(done).streams, minlength=2)
        assert monitor._read_in(number + 1).tolist() == counts.tolist()
    model_loss.observe(None)


def test_norms_are_those_of_the_weights_and_of_the_step(train_config: Make) -> None:
    config = train_config(
        model={"name": "replit_code", "d_model": 32, "n_heads": 4, "n_layers": 2},
        optimizer={"name": "lionw", "lr": 1e-3},
        scheduler={"name": "constant_with_warmup"},
        callbacks={"optimizer_monitor": {"interval": "4ba"}},
    )
    final = train(config)

    from codelm.model.pretrained import load

    weights = [parameter.detach() for parameter in load(final)[0].parameters()]
    last = next(row for row in rows(config.save_folder) if row["batch"] == 8 and "l2_norm/param/global" in row)
    total = sum(float(weight.double().square().sum()) for weight in weights) ** 0.5
    assert last["l2_norm/param/global"] == pytest.approx(total, rel=1e-5)
    # Lion moves every weight by the rate, whatever the gradient.
    moved = 1e-3 * sum(weight.numel() for weight in weights) ** 0.5
    assert last["l2_norm/update/global"] == pytest.approx(moved, rel=0.02)
    assert last["l2_norm/grad/global"] > 0
