"""Which functions, masks and mutants come of a text."""

from collections import Counter

import pytest

from codelm.eval.repository.candidates import find_functions, parse
from codelm.eval.repository.masks import choose_tests, find_masks
from codelm.eval.repository.mutants import mutants, stubs

TEXT = '''\
import abc
from typing import overload

def documented(a, b=[1,
                     2]):
    """Says what it does."""
    # A comment belongs to the body.
    if a > 1:
        b = b + [a]
        a -= 1
    elif a:
        a = "ä" + str(a)
    for x in b: a += x
    return a, b  # the end

def one_line(x): return x + 1

def stub(x):
    """Only words."""
    raise NotImplementedError

class Shape(abc.ABC):
    @property
    def area(self):
        side = 1
        return side

    @abc.abstractmethod
    def draw(self):
        line = 1
        return line

    @staticmethod
    @overload
    def of(x):
        y = x
        return y

    def outer(self):
        def inner():
            z = 1
            return z
        return inner()

def short(x):
    return x
'''
ALL = {line: {"t"} for line in range(1, 60)}


def functions(text=TEXT, covered=ALL, refused=None):
    source = parse("a.py", text)
    assert source is not None
    return list(find_functions(source, covered, 2, 60, Counter() if refused is None else refused))


def masks(text=TEXT, name="documented"):
    (function,) = (function for function in functions(text) if function.name == name)
    return list(find_masks(function, ALL, {}, 9, 9, 20, 0))


def test_every_function_is_taken_or_refused_for_a_reason():
    refused = Counter()
    assert [function.name for function in functions(refused=refused)] == ["documented", "Shape.outer"]
    assert refused == {
        "shares a line with its head": 1,
        "stub body": 1,
        "property": 1,
        "abstract or overload": 2,
        "too short": 1,
    }


def test_a_body_begins_behind_head_and_docstring_and_holds_the_comments_above_it():
    (body,) = (mask for mask in masks() if mask.kind == "body")
    assert body.text.startswith("    # A comment belongs to the body.\n    if a > 1:\n")
    assert body.text.endswith("    return a, b  # the end\n")


def test_blocks_are_suites_on_lines_of_their_own():
    blocks = [mask.text for mask in masks() if mask.kind == "block"]
    assert blocks == ["        b = b + [a]\n        a -= 1\n"]


def test_statements_stand_alone_on_their_lines():
    statements = [mask.text.strip() for mask in masks() if mask.kind == "statement"]
    assert statements == ["b = b + [a]", "a -= 1", 'a = "ä" + str(a)', "return a, b  # the end"]


def test_every_mutant_is_another_whole_program():
    body = masks()[0]
    found = mutants(body, 100, 0)
    assert len(found) > 12
    assert len({text for _, text in found}) == len(found)
    for what, text in found:
        whole = body.function.source.replaced(body.first, body.last, text)
        assert parse("a.py", whole) is not None, what
        assert text != body.text
    assert any("a = ('ä' - str(a))\n" in text for _, text in found)


def test_mutants_are_drawn_the_same_way_each_time():
    assert mutants(masks()[0], 5, 3) == mutants(masks()[0], 5, 3)
    assert mutants(masks()[0], 5, 3) != mutants(masks()[0], 5, 4)


def test_stubs_stand_where_the_mask_stood():
    block = next(mask for mask in masks() if mask.kind == "block")
    assert [text for _, text in stubs(block)] == [
        "        pass\n",
        "        return None\n",
        "        raise NotImplementedError\n",
    ]


@pytest.mark.parametrize("text", ["def f(:\n", "x = 1\rdef f(): pass\n", "x = 1\n\fdef f():\n    pass\n"])
def test_a_file_whose_lines_cannot_be_counted_is_left_alone(text):
    assert parse("a.py", text) is None


def test_of_too_many_tests_those_are_chosen_that_run_all_lines_then_the_quickest():
    lines = {1: {"a", "b", "c"}, 2: {"c"}, 3: {"b"}}
    assert choose_tests(lines, {"a": 0.1, "b": 9.0, "c": 1.0}, 2) == ("b", "c")
    assert choose_tests({1: {"a", "b", "c"}}, {"a": 0.5, "b": 0.1, "c": 0.2}, 2) == ("b", "c")
