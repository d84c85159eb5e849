"""Lines and blocks to be completed, in each of the 20 languages."""

import pytest

from codelm.eval.repository.heldout import items_of
from codelm.eval.repository.items import around
from codelm.languages import LANGUAGES

BRACES = """\
{head}

{comment} the price of an apple, before tax
function price(apple, rate) {{
  let base = lookup(apple, rate);
  {comment} taxes are added last
  if (base > limit) {{
    base = limit - discount(apple);
    report(apple, base);
  }}
  return base * rate;
}}
"""
HASHES = """\
{head}

{comment} the price of an apple, before tax
def price(apple, rate):
    base = lookup(apple, rate)
    {comment} taxes are added last
    if base > limit:
        base = limit - discount(apple)
        report(apple, base)
    return base * rate
"""
MARKUP = """\
<!DOCTYPE html>
<div class="shop">
  <!-- the price of an apple, before tax -->
  <ul id="apples">
    <li>Red apples, two of them</li>
    <li>Green apples, by the pound</li>
  </ul>
  <p>Come early, stay late.</p>
</div>
"""
PROSE = """\
Apples
======

We sell apples by the pound,
and pears by the piece.

Come early on Saturdays;
{comment} the rest is closed
stay as long as you like.
"""
SQL = """\
CREATE TABLE apples (
  id INTEGER PRIMARY KEY,
  -- the price of an apple, before tax
  price NUMERIC NOT NULL
);

SELECT name, price
  FROM apples
  WHERE price > 2
  ORDER BY price DESC;
"""
CSS = """\
.apples {
  color: red;
  /* the price of an apple, before tax */
  margin: 0 auto;
}

@media print {
  .pears {
    display: none;
    color: black white;
  }
}
"""
SHELL = """\
#!/bin/sh

price() {
  base=$(lookup "$apple" "$rate")
  # taxes are added last
  if [ "$base" -gt "$limit" ]; then
    report "$apple" "$base"
    exit "$failure" now
  fi
}
"""
SAMPLES = {"sql": SQL, "css": CSS, "shell": SHELL, "html": MARKUP, "vue": MARKUP, "markdown": PROSE,
           "restructuredtext": PROSE, "python": HASHES, "jupyter": HASHES, "ruby": HASHES, "r": HASHES}  # fmt: skip
HEADS = {"python": "import shop", "jupyter": "# %%\nimport shop", "php": "<?php", "go": "package shop",
         "java": "package org.shop;", "c": "#include <shop.h>", "cpp": "#include <shop>"}  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_lines_and_blocks_of_every_language_have_something_to_predict(language):
    comment = LANGUAGES[language].comment
    sample = SAMPLES.get(language, BRACES)
    text = sample.format(comment=comment, head=HEADS.get(language, "")) if "{comment}" in sample else sample
    lines = text.split("\n")
    found = list(items_of(f"shop/{language}", text, language, 17))
    assert found == list(items_of(f"shop/{language}", text, language, 17))
    assert sum(kind == "line" for kind, _, _ in found) >= 3
    blocks = [(first, last) for kind, first, last in found if kind == "block"]
    assert blocks
    for kind, first, last in found:
        prefix, gap, suffix = around(lines, first, last)
        assert prefix + gap + suffix == text
        assert 3 <= first <= last < len(lines)
        if kind == "line":
            assert first == last
            assert len(gap.split()) >= 2
            if language not in ("markdown", "restructuredtext"):
                assert not gap.strip().startswith(comment), "a comment is nothing to be completed"
        else:
            assert last > first
            assert gap.split("\n")[0].strip()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_text_without_code_has_nothing_to_complete(language):
    assert list(items_of("a", "\n\n\n}\n\n{\n\n", language, 17)) == []
