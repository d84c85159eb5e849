"""Snippets of other files: what is imported, by what the lines above the gap name."""

from collections import Counter

import pytest

from codelm.eval.repository.candidates import find_functions, parse
from codelm.eval.repository.context import Library

PRICES = "".join(
    f"def price_{name}(item):\n    '''{'Prices of ' + name + '. '}{'x' * 400}'''\n    return item\n\n\n"
    for name in ("apples", "pears", "plums", "figs", "nuts", "oats")
)
NAMES = ", ".join(f"price_{name}" for name in ("apples", "pears", "plums", "figs", "nuts", "oats"))


@pytest.fixture
def shown():
    """The names whose heads are shown for the function `last` of a file of these lines."""

    def of(text):
        texts = {"shop/__init__.py": "", "shop/prices.py": PRICES, "shop/till.py": text}
        sources = [source for path, content in texts.items() if (source := parse(path, content)) is not None]
        covered = {line: {"test"} for line in range(1, 100)}
        (last,) = (
            function for function in find_functions(sources[-1], covered, 1, 50, Counter()) if function.name == "last"
        )
        found = [snippet for snippet in Library(sources, [""]).context(last) if snippet.why == "import"]
        assert all(snippet.path == "shop/prices.py" for snippet in found)
        return [snippet.text.partition("(")[0].removeprefix("def price_") for snippet in found]

    return of


FIRST = "def first(item):\n    return price_oats(item)\n\n\n"
LAST = "def last(item, price=price_figs):\n    return price_plums(item)\n"


def test_what_is_named_nearest_above_the_gap_comes_first_and_the_room_is_for_that(shown):
    """Six heads do not fit: those that only the import names go behind, in its order."""
    assert shown(f"from shop.prices import {NAMES}\n\n\n{FIRST}{LAST}") == ["figs", "oats", "apples", "pears"]


@pytest.mark.parametrize(
    ("imported", "prefix"),
    [
        ("import shop.prices", "shop.prices."),
        ("import shop.prices as prices", "prices."),
        ("from shop import prices", "prices."),
        ("from . import prices as p", "p."),
    ],
)
def test_of_a_whole_module_only_what_is_named_above_the_gap_is_shown(shown, imported, prefix):
    code = f"{FIRST}{LAST}".replace("price_", f"{prefix}price_")
    assert shown(f"{imported}\n\n\n{code}") == ["figs", "oats"]


def test_an_import_in_the_gap_is_part_of_the_answer(shown):
    assert shown("def last(item):\n    from shop.prices import price_nuts\n    return price_nuts(item)\n") == []
