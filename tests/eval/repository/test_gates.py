"""Every way out of the gates, with real runs of pytest."""

from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from codelm.eval.repository.candidates import find_functions, parse
from codelm.eval.repository.gates import GateSettings, gate
from codelm.eval.repository.judge import RepositoryJudge
from codelm.eval.repository.masks import Mask

MONEY, TROUBLE = "tests/test_money.py", "tests/test_trouble.py"
TOTAL = (f"{MONEY}::test_total",)


@pytest.fixture(scope="module")
def judge(built):
    with RepositoryJudge(built.folder, workers=1) as judge:
        yield judge


@pytest.fixture
def mask(shop):
    """The body of a function of the shop, or its first line, judged by some tests."""

    def of(path, name, tests, first_line=False):
        # Of an annotated assignment there are no mutants.
        source = parse(path, (shop / path).read_text().replace("parts =", "parts: list ="))
        assert source is not None
        covered = defaultdict(lambda: {"x"}, {line: {"x"} for line in range(1, 100)})
        (function,) = (
            function for function in find_functions(source, covered, 1, 60, Counter()) if function.name == name
        )
        last = function.first if first_line else function.last
        return Mask(function, "statement" if first_line else "body", function.first, last, tests)

    return of


@pytest.fixture
def gated(judge):
    def through(mask, settings, tests_of_run=None):
        def put(start, mask):
            runs = []

            def started(run):
                runs.append(run)
                return start(replace(run, ids=tests_of_run(len(runs), run)) if tests_of_run else run)

            return gate(started, mask, settings, 0)

        ((_, found),) = judge.runner.map(put, [mask])
        return found

    return through


STRICT = GateSettings(references=2, mutants=50, killed=1.0)


@pytest.mark.parametrize(
    ("path", "name", "tests", "first_line", "settings", "reason", "detail"),
    [
        ("shop/money.py", "rounded", (f"{MONEY}::test_fails",), False, STRICT, "reference fails", "test_fails: "),
        ("shop/money.py", "total", (f"{TROUBLE}::test_hangs",), False, GateSettings(max_seconds=0.3), "too slow",
         "more than 1.5 s"),
        ("shop/money.py", "logged", (f"{MONEY}::test_logged",), False, STRICT, "a stub passes", "pass"),
        ("shop/names.py", "initials", (f"{TROUBLE}::test_initials",), True, STRICT, "no mutants", ""),
        ("shop/money.py", "total", TOTAL, False, STRICT, "mutants survive", "line "),
        ("shop/money.py", "total", TOTAL, False, replace(STRICT, killed=0.5), "kept", ""),
    ],
)  # fmt: skip
def test_the_first_gate_that_does_not_hold_is_the_reason(
    gated, mask, path, name, tests, first_line, settings, reason, detail
):
    found = gated(mask(path, name, tests, first_line), settings)
    assert found.reason == reason
    assert detail in found.detail
    assert found.kept == (reason == "kept")
    counts = (found.references, len(found.stubs), bool(found.tried), bool(found.made))
    assert (
        counts
        == {
            "reference fails": (0, 0, False, False),
            "too slow": (0, 0, False, False),
            "a stub passes": (1, 0, False, False),
            "no mutants": (1, 3, False, False),
            "mutants survive": (1, 3, True, True),
            "kept": (2, 3, True, True),
        }[reason]
    )
    if reason == "mutants survive":
        assert found.killed < found.tried <= found.made


def test_a_reference_that_passes_only_at_first_is_flaky(gated, mask):
    """Its second run is given a test that fails: after the first, three stubs and the mutants."""

    def tests_of(number, run):
        source = "".join(run.files.values())
        return (f"{MONEY}::test_fails",) if number > 1 and source == reference else run.ids

    body = mask("shop/money.py", "total", TOTAL)
    reference = body.function.source.text
    found = gated(body, GateSettings(references=3, mutants=2), tests_of)
    assert found.reason == "reference is flaky"
    assert (found.references, len(found.stubs)) == (1, 3)
    assert "test_fails" in found.detail
