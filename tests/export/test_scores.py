"""The card shows scores of these very weights, found near the checkpoint or named, and no others."""

import json
from pathlib import Path

import pytest
import torch

from codelm.errors import EvaluationError
from codelm.eval.run import weights_hash
from codelm.export.scores import card_scores
from codelm.model.pretrained import load

SCORE = {"name": "pass@1", "value": 0.25, "n": 164, "standard_error": 0.03, "low": 0.2, "high": 0.3, "interval": "w"}
GOLD = {**SCORE, "name": "gold_bpb", "value": 1.5, "low": 1.4, "high": 1.6}


def evaluation(folder: Path, weights: str, dtype: str = "float32") -> Path:
    folder.mkdir(parents=True)
    settings = {"benchmark": "humaneval", "weights_sha256": weights, "dtype": dtype, "temperature": 0.0}
    settings |= {"num_samples": 1, "sandbox": "landlock"}
    (folder / "settings.json").write_text(json.dumps(settings))
    scores = {score["name"]: score for score in (SCORE, GOLD)}
    (folder / "summary.json").write_text(json.dumps({"title": "HumanEval", "profile": "humaneval-1", "scores": scores}))
    return folder


def test_an_evaluation_beside_the_checkpoints_is_shown_with_its_interval(checkpoint, tmp_path) -> None:
    model, _ = load(checkpoint)
    evaluation(tmp_path / "eval", weights_hash(model))
    rows = card_scores(model, checkpoint / "ba000012", None)
    assert rows[0].startswith("| HumanEval pass@1 | 25.0% (20.0% to 30.0%) | 164 problems; greedy")
    assert rows[1].startswith("| HumanEval gold_bpb | 1.500 (1.400 to 1.600) |")


def test_an_evaluation_in_bf16_is_known_and_leaves_the_weights_alone(checkpoint, tmp_path) -> None:
    model, _ = load(checkpoint)
    before = weights_hash(model)
    evaluation(tmp_path / "eval", weights_hash(load(checkpoint, dtype=torch.bfloat16)[0]), "bfloat16")
    assert len(card_scores(model, checkpoint / "ba000012", None)) == 2
    assert weights_hash(model) == before


def test_an_evaluation_of_other_weights_is_not_shown_and_refused_when_named(checkpoint, tmp_path) -> None:
    model, _ = load(checkpoint)
    folder = evaluation(tmp_path / "eval", "0" * 64)
    assert card_scores(model, checkpoint / "ba000012", None) == []
    with pytest.raises(EvaluationError, match="is of other weights than this checkpoint's"):
        card_scores(model, checkpoint / "ba000012", None, folder)
    with pytest.raises(EvaluationError, match=r"holds no finished evaluation \(summary\.json is absent\)"):
        card_scores(model, checkpoint / "ba000012", None, tmp_path)


def test_held_out_losses_are_those_of_the_checkpoints_batch(checkpoint) -> None:
    lines = [{"batch": 6, "metrics/c/BitsPerByte": 9.0}, {"batch": 12, "metrics/c/BitsPerByte": 2.5, "lr": 1}]
    (checkpoint / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"batch": 1')
    rows = card_scores(load(checkpoint)[0], checkpoint / "ba000012", {"batch": 12})
    assert rows == ["| bits per byte, c | 2.500 | held-out files |"]
