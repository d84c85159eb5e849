"""A build that is interrupted anywhere goes on where it stopped; one of very many files ends."""

import sys
from dataclasses import replace

import pytest

from codelm.eval.repository import manifest
from codelm.eval.repository.build import build
from codelm.eval.repository.gates import GateSettings
from codelm.eval.repository.settings import BuildSettings

QUICK = BuildSettings(repeats=2, blocks=1, statements=1, gates=GateSettings(references=1, mutants=1))
SHOP = "".join(
    f"def total_{number}(prices, discount):\n    result = {number}\n    for price in prices:\n        result += price\n"
    f"    return result - discount\n\n\n"
    for number in range(3)
)
TESTS = {
    f"tests/test_{number}.py": f"from shop import total_{number}\n\n\ndef test_total():\n"
    f"    assert total_{number}([1, 2], 1) == {number + 2}\n"
    for number in range(3)
}
FILES = {"shop/__init__.py": SHOP, **TESTS}


def found(built):
    _, rows = manifest.read(built.folder)
    masks = [mask["id"] for row in rows for mask in row.get("masks", ())]
    return built.tests, built.functions, built.gates, masks


def test_a_build_is_taken_up_between_chunks_and_gates(laid_out, tmp_path):
    folder = laid_out(tmp_path / "shop-repository", FILES)
    begun = {}

    def stopping(stage):
        def progress(now, done, total):
            begun.setdefault((stage, now), done)
            if now == stage and 0 < done < total:
                raise KeyboardInterrupt

        return progress

    for stage in ("tests", "repeat", "gates"):
        with pytest.raises(KeyboardInterrupt):
            build(str(folder), sys.executable, tmp_path / "bench", QUICK, workers=1, progress=stopping(stage))
        assert not (tmp_path / "bench" / manifest.BENCHMARK).exists()
    resumed = build(str(folder), sys.executable, tmp_path / "bench", QUICK, workers=1, progress=stopping("nothing"))
    starts = {
        stage: [done for (_, now), done in begun.items() if now == stage] for stage in ("tests", "repeat", "gates")
    }
    assert starts["tests"] == [0, 1, 3, 3], "no chunk of tests runs twice"
    assert starts["repeat"] == [0, 1, 3]
    assert starts["gates"][0] == 0
    assert starts["gates"][1] > 0
    whole = build(str(folder), sys.executable, tmp_path / "whole", QUICK, workers=1)
    assert found(resumed) == found(whole)
    assert resumed.gates["body"] == {"kept": 3}


@pytest.mark.slow
def test_a_repository_of_very_many_files_is_built(laid_out, tmp_path):
    folder = laid_out(tmp_path / "shop-repository", FILES)
    few = replace(QUICK, repeats=1, blocks=0, statements=0)
    for number in range(200):
        (folder / "data" / str(number)).mkdir(parents=True)
        for name in range(50):
            (folder / "data" / str(number) / f"{name}.txt").touch()
    built = build(str(folder), sys.executable, tmp_path / "bench", few, workers=1)
    assert len(built.repository.files) == 10_000 + len(FILES)
    assert built.gates["body"] == {"kept": 3}
