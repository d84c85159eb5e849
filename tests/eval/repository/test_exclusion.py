"""The manifest named in data preparation's YAML: what is masked or held out does not get into training."""

import ast
import re
import shutil

import pytest

from codelm.config.data import DataConfig
from codelm.data.contamination.needles import Needles
from codelm.data.contamination.problems import load_problems
from codelm.data.prepare import prepare
from codelm.data.reading.shard_reader import ShardReader
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


def test_a_copy_of_a_masked_function_under_other_names_is_found(built, shop):
    needles = Needles.build(load_problems(str(built.folder / manifest.MANIFEST)))
    text = (shop / "shop/money.py").read_text()
    code = text[text.index("    result = 0") : text.index("def logged")]
    names = {"result": "acc", "prices": "items", "price": "item", "rounded": "nearest", "discount": "off"}
    copy = re.sub("|".join(sorted(names, key=len, reverse=True)), lambda match: names[match[0]], code)
    hits = needles.find(f"def add_up(items, off=0.0):\n{copy}", "python")
    assert [(hit.problem, hit.kind) for hit in hits] == [("shop/money.py::total", "renamed")]


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


def words(text):
    return " ".join(re.findall(r"\w+", text))


def test_what_is_masked_or_held_out_is_in_no_shard(built, shop, tokenizer, tmp_path):
    """From the repository and its manifest through data preparation to the tokens that training reads."""
    shutil.copytree(shop, tmp_path / "code" / "shop")
    copies = tmp_path / "code" / "copies"
    copies.mkdir()
    bare = "\n".join(line for line in (shop / "shop/money.py").read_text().split("\n") if '"""' not in line)
    (copies / "retabbed.py").write_text(bare.replace("    ", "\t") + "\nretabbed = True\n")
    (copies / "unparsed.py").write_text(ast.unparse(ast.parse(bare)) + "\nunparsed = True\n")
    (copies / "bystander.py").write_text(headed("shop/stock.py", "def bystander(cart):\n    return sorted(cart)\n"))

    def text_of_corpus(name, benchmarks):
        folder = tmp_path / name
        config = {
            "run_name": name,
            "sources": {"code": {"path": str(tmp_path / "code")}},
            "dedup": {"exact": False, "near": None},
            "split": {"validation": 0.0},
            "tokenizer": {"path": str(tokenizer.path)},
            "max_seq_len": 16,
            "num_workers": 1,
            "output_folder": str(folder),
            "decontamination": {"benchmarks": benchmarks},
        }
        languages = prepare(DataConfig.model_validate(config)).manifest.languages()
        readers = [ShardReader(folder, "train", language) for language in languages]
        return words("".join(tokenizer.decode(reader[row]) for reader in readers for row in range(len(reader))))

    _, rows = manifest.read(built.folder)
    hidden = [words(row["canonical_solution"]) for row in rows if row["row"] == "function"]
    texts = [row["solution"] for row in rows if row["row"] == "file"]
    hidden += [words(line) for text in texts for line in text.split("\n") if "price" in line]
    assert len(hidden) > 10
    without = text_of_corpus("without", ["humaneval"])
    assert all(text in without for text in hidden)
    corpus = text_of_corpus("with", ["humaneval", str(built.folder / manifest.MANIFEST)])
    assert "bystander cart" in corpus, "the rest is trained on"
    assert [text for text in hidden if text in corpus] == []


def test_nothing_is_held_out_where_nothing_is_asked_for(shop, tmp_path):
    built = build(str(shop), None, tmp_path / "bench", BuildSettings(held_out=0.0))
    assert built.held_out == {}
