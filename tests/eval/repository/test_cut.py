"""Where completions end."""

import pytest

from codelm.eval.repository.cut import cut, finished

BODY = "    result = 0\n    return result\n"


@pytest.mark.parametrize(
    ("kind", "gold", "completion", "kept"),
    [
        ("body", BODY, "    return 1\n\n\ndef other():\n    pass\n", "    return 1\n"),
        ("body", BODY, "    x = [\n1,\n2]\n    return x\nprint(1)\n", "    x = [\n1,\n2]\n    return x\n"),
        ("body", BODY, '    return """\ntext\n"""\nclass A:\n', '    return """\ntext\n"""\n'),
        (
            "body",
            BODY,
            "    a = 1\n# at the margin\n    return a\nx = 1\n",
            "    a = 1\n# at the margin\n    return a\n",
        ),
        ("body", BODY, "    return 1", "    return 1\n"),
        ("body", BODY, "    return 1\n    # why\n\n# ----\n# next\nx = 1\n", "    return 1\n    # why\n"),
        ("block", "        a()\n        b()\n", "        a()\n    c()\n", "        a()\n"),
        ("block", "        a()\n        b()\n", "        a()\n    else:\n        b()\n", "        a()\n"),
        ("statement", "    a = 1\n", "    a = f(\n        1)\n    b = 2\n", "    a = f(\n        1)\n"),
        ("statement", "    return a\n", "    # why\n    return a\n    b\n", "    # why\n    return a\n"),
        ("line", "    a = 1\n", "    a = f(\n        1)\n", "    a = f(\n"),
        ("body", BODY, "", ""),
    ],
)
def test_a_completion_ends_where_the_gap_does(kind, gold, completion, kept):
    assert cut(kind, gold, completion) == kept


def test_a_block_in_another_language_has_as_many_lines_as_were_masked():
    assert cut("block", "  a();\n  b();\n", "  a();\n  c();\n}\n", "javascript") == "  a();\n  c();\n"


@pytest.mark.parametrize(
    ("kind", "completion", "at"),
    [
        ("body", "    x = 1\n\n    return x\n\ndef other():\n", "    x = 1\n\n    return x\n\nd"),
        ("body", "    return [\n1]\n# a comment\nx = 1\n", "    return [\n1]\n# a comment\nx"),
        ("statement", "    # why\n    return f(\n        a)\n    b = 1\n", "    # why\n    return f(\n        a)\n"),
        ("line", "    return f(\n        a)\n", "    return f(\n"),
    ],
)
def test_generation_stops_as_soon_as_the_gap_has_ended_and_not_before(kind, completion, at):
    """Tried after every character: what is cut from there on stays the same."""
    ends = [end for end in range(len(completion) + 1) if finished(kind, BODY, completion[:end])]
    assert completion[: ends[0]] == at
    assert ends == list(range(ends[0], len(completion) + 1))
    assert {cut(kind, BODY, completion[:end]) for end in ends} == {cut(kind, BODY, completion)}


def test_a_block_in_another_language_is_finished_with_its_last_line():
    assert not finished("block", "  a();\n  b();\n", "  a();\n  c();", "javascript")
    assert finished("block", "  a();\n  b();\n", "  a();\n  c();\n", "javascript")
