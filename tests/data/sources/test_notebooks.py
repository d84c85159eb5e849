"""Notebooks of every format become scripts, or text, code and outputs between marks."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelm.data.sources.notebooks import MAX_OUTPUT_CHARACTERS, notebook_text

CODE = {"cell_type": "code", "source": ["import os\n", "os.getcwd()"], "outputs": [{"data": {"image/png": "iVBOR"}}]}
MARKDOWN = {"cell_type": "markdown", "source": "# Title\n\ntext"}
EMPTY = {"cell_type": "code", "source": []}


def code(*outputs: Any, source: str = "f()") -> str:
    return json.dumps({"cells": [{"cell_type": "code", "source": source, "outputs": list(outputs)}], "nbformat": 4})


def test_cells_come_in_order_without_outputs() -> None:
    script = notebook_text(json.dumps({"cells": [MARKDOWN, EMPTY, CODE], "nbformat": 4}))
    assert script == "# %% [markdown]\n# # Title\n#\n# text\n\n# %%\nimport os\nos.getcwd()\n"


@pytest.mark.parametrize(
    "old",
    [
        {"worksheets": [{"cells": [{"cell_type": "code", "input": "x = 1"}]}], "nbformat": 3},
        {"worksheets": [{"cells": [{"cell_type": "code", "input": ["x = 1"], "prompt_number": 1}]}], "nbformat": 2},
        {"cells": [{"cell_type": "code", "code": "x = 1"}]},
    ],
)
def test_older_formats_are_read(old: dict) -> None:
    assert notebook_text(json.dumps(old)) == "# %%\nx = 1\n"


def test_headings_and_all_worksheets_of_the_older_format() -> None:
    cells = [{"cell_type": "heading", "level": 2, "source": "Two"}]
    old = {"worksheets": [{"cells": cells}, {"cells": [{"cell_type": "code", "input": "x = 1"}]}], "nbformat": 3}
    assert notebook_text(json.dumps(old)) == "# %% [markdown]\n# ## Two\n\n# %%\nx = 1\n"


@pytest.mark.parametrize(
    ("metadata", "comment"),
    [
        ({"language_info": {"name": "javascript"}}, "//"),
        ({"language_info": {"name": "C++"}}, "//"),
        ({"language_info": {"name": "R"}}, "#"),
        ({"language_info": {"name": "haskell"}}, "#"),
        ({"language_info": {"name": 7}}, "#"),
        ({"language_info": []}, "#"),
        ([], "#"),
    ],
)
def test_comments_are_those_of_the_kernels_language(metadata: object, comment: str) -> None:
    text = notebook_text(json.dumps({"cells": [MARKDOWN], "metadata": metadata}))
    assert text == f"{comment} %% [markdown]\n{comment} # Title\n{comment}\n{comment} text\n"


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", "null", '{"cells": 1}', '{"cells": [1]}', '{"worksheets": []}', "[" * 100_000),
        *('{"cells": [{"source": "x"}]}', '{"worksheets": [{}]}'),
        '{"cells": [{"cell_type": "code", "source": "\\ud83d"}]}',
    ],
)
@pytest.mark.parametrize("form", ["script", "structured"])
def test_what_is_no_notebook_is_none(text: str, form: Any) -> None:
    assert notebook_text(text, form) is None


def test_the_structured_form_keeps_text_code_and_outputs_apart() -> None:
    cells = [
        MARKDOWN,
        EMPTY,
        {
            "cell_type": "code",
            "source": "print(1)\n2",
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": ["1\n"]},
                {"output_type": "execute_result", "data": {"text/plain": ["2"], "text/html": "<b>2</b>"}},
            ],
        },
        CODE,
    ]
    assert notebook_text(json.dumps({"cells": cells}), "structured") == (
        "<jupyter_start><jupyter_text># Title\n\ntext\n<jupyter_code>print(1)\n2\n<jupyter_output>1\n2\n"
        "<jupyter_code>import os\nos.getcwd()\n"
    )


def test_a_notebook_of_empty_cells_is_empty() -> None:
    for form in ("script", "structured"):
        assert notebook_text(json.dumps({"cells": [EMPTY]}), form) == ""


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        ({"output_type": "stream", "text": "out\n"}, "out"),
        ({"output_type": "pyout", "text": ["out"]}, "out"),
        ({"output_type": "display_data", "data": {"text/plain": "out", "image/png": "iVBOR"}}, "out"),
        ({"output_type": "error", "ename": "E", "evalue": "\x1b[31mbad\x1b[0m", "traceback": ["long"]}, "E: bad"),
        ({"output_type": "pyerr", "ename": "E", "evalue": "bad"}, "E: bad"),
        ({"output_type": "display_data", "data": {"image/png": "iVBOR", "text/html": "<p>"}}, None),
        ({"output_type": "display_data", "png": "iVBOR"}, None),
        ({"output_type": "stream", "text": None}, None),
        ({"output_type": "stream", "text": [1, "out", {}]}, "out"),
        ({"data": 7}, None),
        ("nonsense", None),
        (None, None),
    ],
)
def test_outputs_of_every_kind(output: object, shown: str | None) -> None:
    expected = "<jupyter_start><jupyter_code>f()\n" + (f"<jupyter_output>{shown}\n" if shown else "")
    assert notebook_text(code(output), "structured") == expected


def test_huge_outputs_are_cut() -> None:
    text = notebook_text(code(*[{"output_type": "stream", "text": "long\n" * 1_000_000}] * 3), "structured")
    assert text is not None
    assert len(text) <= MAX_OUTPUT_CHARACTERS + 100
    assert text.startswith("<jupyter_start><jupyter_code>f()\n<jupyter_output>long\nlong\n")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda below: (
        st.lists(below, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["cells", "worksheets", "cell_type", "source", "outputs", "data", "text", "metadata", "level"]
            ),
            below,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(_JSON, st.sampled_from(["script", "structured"]))
def test_no_json_makes_it_fail(value: object, form: Any) -> None:
    for notebook in (value, {"cells": value}, {"cells": [{"cell_type": "code", "source": "x", "outputs": value}]}):
        text = notebook_text(json.dumps(notebook), form)
        assert text is None or text.encode() is not None
