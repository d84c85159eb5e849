"""What the tests of the evaluation share: one running judge, HumanEval's problems."""

import pytest

from codelm.config.eval import SandboxSection
from codelm.eval import humaneval
from codelm.eval.judge.pool import JudgePool
from codelm.eval.judge.verdict import Job


@pytest.fixture(scope="session")
def problems():
    return humaneval.load_problems()


@pytest.fixture(scope="module")
def pool():
    with JudgePool(SandboxSection(num_workers=2, cpu_seconds=1.0, wall_seconds=3.0)) as pool:
        yield pool


@pytest.fixture
def verdict(pool):
    """Judge one program by one expression over `f`, which must be true."""

    def judge(program, claim="f(2) == 4"):
        test = f"def check(candidate):\n    assert {claim.replace('f(', 'candidate(')}\n"
        (verdict,) = pool.judge([Job("job", program, "f", "", test)])
        return verdict

    return judge
