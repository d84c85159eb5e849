"""Which form of ALiBi a checkpoint wants: measured on the checkpoint, decided by the error of the difference."""

import math
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch

from codelm.errors import CheckpointError, EvaluationError
from codelm.eval.alibi_form import FormScores, compare_forms
from codelm.eval.gold import gold_bits
from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
from codelm.model.pretrained import save_transformers
from codelm.tokenizer import CodeTokenizer
from codelm.tokenizer_training import train_tokenizer

ROOT = Path(__file__).parents[2]
TEXTS = [(Path(sysconfig.get_path("stdlib")) / name).read_text() for name in ("textwrap.py", "bisect.py", "heapq.py")]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CodeTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TEXTS, 500, folder)
    return CodeTokenizer(folder)


def make(tokenizer: CodeTokenizer, **attn_config) -> ReplitCodeForCausalLM:
    torch.manual_seed(0)
    shape = {"d_model": 32, "n_heads": 4, "n_layers": 2, "vocab_size": tokenizer.vocab_size, "max_seq_len": 256}
    return ReplitCodeForCausalLM(ReplitCodeConfig(**shape, attn_config=attn_config))


def test_all_forms_score_the_same_windows(tokenizer: CodeTokenizer) -> None:
    model = make(tokenizer)
    calls = []
    scores = compare_forms(model, tokenizer, TEXTS, 256, 3, lambda done, total: calls.append((done, total)))
    assert (scores.windows, scores.tokens) == (3, 768)
    assert calls[-1] == (12, 12)
    bits = scores.bits_per_byte
    assert bits["legacy float32"] == pytest.approx(bits["relative float32"], rel=1e-5)
    assert abs(bits["legacy bfloat16"] - bits["relative float32"]) > abs(
        bits["relative bfloat16"] - bits["relative float32"]
    )
    assert scores.advantage == pytest.approx(bits["relative bfloat16"] - bits["legacy bfloat16"])

    ids = [index for text in TEXTS for index in (*tokenizer.encode(text), tokenizer.eos_id)]
    sizes = tokenizer.token_bytes()
    windows = [ids[start : start + 256] for start in (0, 256, 512)]
    rounded = make(tokenizer).bfloat16().float()
    expected = gold_bits(rounded, [(window[:1], window[1:]) for window in windows], pad_id=2)
    each = [value / int(sizes[window[1:]].sum()) for value, window in zip(expected, windows, strict=True)]
    assert bits["relative float32"] == pytest.approx(sum(each) / 3, rel=1e-5)


def test_the_configuration_is_left_as_it_was(tokenizer: CodeTokenizer) -> None:
    model = make(tokenizer, attn_impl="triton")
    before = dict(model.config.attn_config)
    compare_forms(model, tokenizer, TEXTS, 128, 2)
    assert model.config.attn_config == before


@pytest.mark.parametrize(
    ("advantage", "error", "form", "words"),
    [
        (0.05, 0.01, "legacy", "set attn_config.alibi_form to legacy"),
        (0.05, 0.04, "relative", "better, within the error, by 0.0500 ± 0.0400"),
        (-0.05, 0.01, "relative", "worse by 0.0500 ± 0.0100 bits per byte: leave attn_config.alibi_form at relative"),
    ],
)
def test_legacy_needs_more_than_two_standard_errors(advantage: float, error: float, form: str, words: str) -> None:
    scores = FormScores(4, 1024, {}, advantage, error)
    assert scores.form == form
    assert words in scores.sentence()


def test_what_has_no_form_is_refused(tokenizer: CodeTokenizer) -> None:
    with pytest.raises(CheckpointError, match="learned positions instead of ALiBi"):
        compare_forms(make(tokenizer, alibi=False), tokenizer, TEXTS, 64)
    with pytest.raises(EvaluationError, match="two windows of 256 are needed: name more files"):
        compare_forms(make(tokenizer), tokenizer, ["x = 1\n"], 256)


def test_the_recipe_measures_a_checkpoint(tokenizer: CodeTokenizer, tmp_path: Path) -> None:
    model = make(tokenizer)
    save_transformers(model, model.config, tokenizer.path, tmp_path / "model")
    file = tmp_path / "a.py"
    file.write_text(TEXTS[0])
    command = [sys.executable, "eval/alibi_form.py", str(tmp_path / "model"), str(file), "--length=128", "--windows=2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("2 windows of 128 tokens")
    assert [line.split()[:2] for line in lines[1:5]] == [
        [form, dtype] for dtype in ("float32", "bfloat16") for form in ("relative", "legacy")
    ]
    assert all(math.isfinite(float(line.split()[2])) for line in lines[1:5])
    assert "alibi_form" in lines[5]

    failed = subprocess.run([*command[:3], str(tmp_path / "absent.py")], cwd=ROOT, capture_output=True, text=True)
    assert failed.returncode == 2
    assert "absent.py cannot be read" in failed.stderr

    for wrong, sentence in (
        ("--length=0", "--length must be at least 2"),
        ("--windows=1", "--windows must be at least"),
    ):
        refused = subprocess.run([*command[:4], wrong], cwd=ROOT, capture_output=True, text=True)
        assert refused.returncode == 2
        assert sentence in refused.stderr
