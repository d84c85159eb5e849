"""The manifest named in data preparation's YAML: what is masked or held out does not get into training."""

from codelm.data.contamination.needles import Needles
from codelm.data.contamination.problems import load_problems
from codelm.eval.repository import manifest


def test_decontamination_finds_masked_functions_and_held_out_files(built, shop):
    needles = Needles.build(load_problems(str(built.folder / manifest.MANIFEST)))
    money = {(hit.benchmark, hit.problem) for hit in needles.find((shop / "shop/money.py").read_text())}
    assert ("shop-repository", "shop/money.py::total") in money
    script = {(hit.benchmark, hit.problem) for hit in needles.find((shop / "web/shop.js").read_text())}
    assert script == {("shop-repository", "web/shop.js")}


def test_a_reformatted_copy_of_a_masked_function_is_found(built):
    needles = Needles.build(load_problems(str(built.folder / manifest.MANIFEST)))
    copy = (
        "class Sums {\n // the sum of prices, less a discount\n  result=0; for price in prices { if (price<0)"
        " raise ValueError(price); result+=price }\n return rounded(result*(1-discount)) }"
    )
    assert "shop/money.py::total" in {hit.problem for hit in needles.find(copy)}


def test_other_code_of_the_repository_stays(built):
    needles = Needles.build(load_problems(str(built.folder / manifest.MANIFEST)))
    assert not needles.find("def never_called(prices):\n    first = prices[0]\n    return first\n")
