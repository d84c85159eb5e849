"""What the tests of the evaluation share: one running judge, HumanEval's problems."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.eval.benchmarks import humaneval
from codelm.eval.judge.pool import JudgePool
from codelm.eval.judge.verdict import Job
from codelm.tokenizer_training import train_tokenizer


@pytest.fixture
def run_recipe(monkeypatch, capsys):
    """Run a recipe of eval/ in this process: (exit code, stdout, stderr)."""
    folder = Path(__file__).parents[2] / "eval"

    def call(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        monkeypatch.syspath_prepend(str(folder))
        mine = [path.stem for path in folder.glob("*.py")]  # recipes import each other by these names
        kept = {name: sys.modules.pop(name) for name in mine if name in sys.modules}
        try:
            runpy.run_path(str(folder / name), run_name="__main__")
            code = 0
        except SystemExit as stop:
            code = stop.code
        finally:
            for name in mine:
                sys.modules.pop(name, None)
            sys.modules.update(kept)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture(scope="session")
def problems():
    return humaneval.load_problems()


@pytest.fixture(scope="module")
def pool():
    # Little memory: on a busy machine, filling the default gigabyte takes longer than the second of CPU.
    bounds = SandboxSection(num_workers=2, cpu_seconds=1.0, wall_seconds=3.0, memory_bytes=1 << 28)
    with JudgePool(bounds) as pool:
        yield pool


@pytest.fixture
def verdict(pool):
    """Judge one program by one expression over `f`, which must be true."""

    def judge(program, claim="f(2) == 4"):
        test = f"def check(candidate):\n    assert {claim.replace('f(', 'candidate(')}\n"
        (verdict,) = pool.judge([Job("job", program, "f", "", test)])
        return verdict

    return judge


class Reciter(torch.nn.Module):
    """A causal language model that has learnt some texts by heart, and says EOS or nonsense otherwise.

    Its cache holds the ids so far as keys, so that the loop around it is the real one.
    """

    def __init__(self, texts, vocab_size, eos_id, nonsense):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        self.texts, self.vocab_size, self.eos_id, self.nonsense = texts, vocab_size, eos_id, nonsense
        self.config = SimpleNamespace()
        self.calls = 0

    def forward(self, input_ids, attention_mask=None, past_key_values=None, use_cache=None):
        self.calls += 1
        seen = input_ids
        if past_key_values is not None:
            keys = input_ids[:, None, :, None].float()
            seen = past_key_values.update(keys, keys, 0)[0][:, 0, :, 0].long()
        attention_mask = torch.ones_like(seen) if attention_mask is None else attention_mask
        logits = torch.full((*input_ids.shape, self.vocab_size), -20.0)
        for row, (ids, mask) in enumerate(zip(seen.tolist(), attention_mask.tolist(), strict=True)):
            pad = mask.index(1)
            for place in range(input_ids.shape[1]):
                end = seen.shape[1] - input_ids.shape[1] + place + 1
                logits[row, place, self.next(ids[pad:end])] = 0.0
        return SimpleNamespace(logits=logits + self.anchor, past_key_values=past_key_values)

    def next(self, ids):
        for text in self.texts:
            if text[: len(ids)] == ids:
                return text[len(ids)] if len(ids) < len(text) else self.eos_id
        return self.nonsense


@pytest.fixture(scope="session")
def tokenizer(problems, tmp_path_factory):
    texts = [problem.prompt + problem.gold for problem in problems]
    return train_tokenizer(texts, 600, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def reciter_of():
    """The class, for a test with texts and a tokenizer of its own."""
    return Reciter


@pytest.fixture
def reciter(problems, tokenizer):
    """Knows the references of the problems with an even number."""
    texts = [[*tokenizer.encode(problem.prompt), *tokenizer.encode(problem.gold)] for problem in problems[::2]]
    return Reciter(texts, tokenizer.vocab_size, tokenizer.eos_id, tokenizer.encode("x")[-1])
