"""Notebooks become scripts."""

import json

import pytest

from codelm.data.notebooks import notebook_text

CODE = {"cell_type": "code", "source": ["import os\n", "os.getcwd()"], "outputs": [{"data": {"image/png": "iVBOR"}}]}
MARKDOWN = {"cell_type": "markdown", "source": "# Title\n\ntext"}
EMPTY = {"cell_type": "code", "source": []}


def test_cells_come_in_order_without_outputs() -> None:
    script = notebook_text(json.dumps({"cells": [MARKDOWN, EMPTY, CODE], "nbformat": 4}))
    assert script == "# %% [markdown]\n# # Title\n#\n# text\n\n# %%\nimport os\nos.getcwd()\n"


def test_the_older_format_with_worksheets_is_read() -> None:
    old = {"worksheets": [{"cells": [{"cell_type": "code", "input": "x = 1"}]}], "nbformat": 3}
    assert notebook_text(json.dumps(old)) == "# %%\nx = 1\n"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "null", '{"cells": 1}', '{"cells": [1]}', '{"worksheets": []}', "[" * 100_000]
)
def test_what_is_no_notebook_is_none(text: str) -> None:
    assert notebook_text(text) is None
