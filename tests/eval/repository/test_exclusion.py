"""The manifest named in data preparation's YAML: what is masked or held out does not get into training."""

import pytest

from codelm.data.contamination.needles import Needles
from codelm.data.contamination.problems import load_problems
from codelm.eval.repository import manifest
from codelm.eval.repository.build import build
from codelm.eval.repository.settings import BuildSettings


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


NOTICE = """Copyright 2024 The Shop Authors.

Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
the License. You may obtain a copy of the License at

    http://www.apache.org/licenses/LICENSE-2.0

Unless required by applicable law or agreed to in writing, software distributed under the License is distributed on an
"AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific
language governing permissions and limitations under the License."""
HEADS = {
    "shop/stock.py": ("#!/usr/bin/env python3\n", "# ", ""),
    "shop/orders.py": ('"""', "", '"""\n'),
    "src/stock.c": ("/*\n", " * ", " */\n"),
    "src/stock.go": ("", "// ", ""),
    "src/stock.sql": ("", "-- ", ""),
    "src/stock.php": ("<?php\n/*\n", " * ", " */\n"),
    "src/stock.rb": ("=begin\n", "", "=end\n"),
    "docs/stock.html": ("<!DOCTYPE html>\n<!--\n", "", "-->\n"),
    "docs/stock.md": ("<!--\n", "", "-->\n"),
    "docs/stock.rst": ("..\n", "    ", "\n"),
}
CODE = (
    "warehouse shelves pallets forklift reorder threshold supplier invoice customs tariff\nstocktaking depreciation"
    " perishable refrigeration humidity barcode scanner conveyor\npackaging courier dispatch manifest consignment\n"
)


def headed(path, code):
    before, line, after = HEADS[path]
    return before + "".join(f"{line}{one}".rstrip() + "\n" for one in NOTICE.split("\n")) + after + "\n" + code


@pytest.mark.parametrize("path", HEADS)
def test_a_held_out_files_licence_notice_costs_no_other_file(tmp_path, path):
    place = tmp_path / "shop-repository" / path
    place.parent.mkdir(parents=True)
    place.write_text(headed(path, CODE))
    (tmp_path / "shop-repository" / "LICENSE.md").write_text(NOTICE)
    built = build(str(tmp_path / "shop-repository"), None, tmp_path / "bench", BuildSettings(held_out=1.0))
    needles = Needles.build(load_problems(str(built.folder / manifest.MANIFEST)))
    assert [problem for _, problem in needles.problems] == [path], "the licence itself is not held out"
    assert needles.find(headed(path, CODE))
    for other in HEADS:
        assert not needles.find(headed(other, "import os\n"))


def test_nothing_is_held_out_where_nothing_is_asked_for(shop, tmp_path):
    built = build(str(shop), None, tmp_path / "bench", BuildSettings(held_out=0.0))
    assert built.held_out == {}
