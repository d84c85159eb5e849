"""Jupyter notebooks as text: a script in the `# %%` form that editors know, or text, code and outputs between marks.

Every format that was ever written is read: 4 (`cells`), 2 and 3 (`worksheets`, `input`), 1 (`code`, `text`).
The marks are those of StarCoder's structured notebooks: where a vocabulary holds them as pieces, each is one token.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

from codelm.languages import LANGUAGES

NotebookForm = Literal["script", "structured"]
START, TEXT, CODE, OUTPUT = "<jupyter_start>", "<jupyter_text>", "<jupyter_code>", "<jupyter_output>"
MAX_OUTPUT_CHARACTERS = 2000
"""Of a cell; what is longer is cut (printed tables and logs would outweigh the code)."""

_LINE_COMMENTS = ("#", "//", "--")
_TERMINAL_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def notebook_text(notebook: str, form: NotebookForm = "script") -> str | None:
    """The text of a notebook's JSON, or None when it is not one, or holds what no text can (lone surrogates)."""
    try:
        fields = json.loads(notebook)
        text = _structured(fields) if form == "structured" else _script(fields)
        text.encode()
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None
    return text


def _script(notebook: dict[str, Any]) -> str:
    comment = _comment(notebook)
    parts = []
    for cell in _cells(notebook):
        text = _source(cell)
        if text.strip() and cell["cell_type"] == "code":
            parts.append(f"{comment} %%\n{text}\n")
        elif text.strip():
            lines = "".join(f"{comment} {line}".rstrip() + "\n" for line in text.split("\n"))
            parts.append(f"{comment} %% [markdown]\n{lines}")
    return "\n".join(parts)


def _structured(notebook: dict[str, Any]) -> str:
    parts = []
    for cell in _cells(notebook):
        text, is_code = _source(cell), cell["cell_type"] == "code"
        if text.strip():
            parts.append(f"{CODE if is_code else TEXT}{text.rstrip()}\n")
            output = _outputs(cell) if is_code else ""
            if output:
                parts.append(f"{OUTPUT}{output}\n")
    return START + "".join(parts) if parts else ""


def _cells(notebook: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "cells" in notebook:
        yield from notebook["cells"]
        return
    if not notebook["worksheets"]:
        raise ValueError("a notebook without worksheets")
    for sheet in notebook["worksheets"]:
        yield from sheet["cells"]


def _source(cell: dict[str, Any]) -> str:
    text = _joined(next((cell[key] for key in ("source", "input", "code", "text") if key in cell), ""))
    if cell["cell_type"] == "heading" and text.strip():
        level = cell.get("level", 1)
        return f"{'#' * (level if isinstance(level, int) and 1 <= level <= 6 else 1)} {text}"
    return text


def _joined(text: object) -> str:
    """A text that the format allows to be a list of lines; what is neither holds none."""
    if isinstance(text, list):
        return "".join(line for line in text if isinstance(line, str))
    return text if isinstance(text, str) else ""


def _outputs(cell: dict[str, Any]) -> str:
    """The outputs' text; images, HTML and widgets are left out. Broken outputs have none: the code still counts."""
    outputs = cell.get("outputs")
    parts = [_output(output) for output in outputs if isinstance(output, dict)] if isinstance(outputs, list) else []
    text = _TERMINAL_COLOURS.sub("", "".join(f"{part.rstrip()}\n" for part in parts if part.strip()))
    return text[:MAX_OUTPUT_CHARACTERS].rstrip()


def _output(output: dict[str, Any]) -> str:
    if output.get("output_type") in ("error", "pyerr"):
        return f"{_joined(output.get('ename'))}: {_joined(output.get('evalue'))}"
    data = output.get("data")
    plain = data.get("text/plain") if isinstance(data, dict) else output.get("text", output.get("output_text"))
    # Before the colours are looked for, so that an output of megabytes costs no more than one of thousands.
    return _joined(plain)[: 4 * MAX_OUTPUT_CHARACTERS]


def _comment(notebook: dict[str, Any]) -> str:
    """What begins a comment in the language of the notebook's kernel; without one that we know, Python's."""
    metadata = notebook.get("metadata")
    info = metadata.get("language_info") if isinstance(metadata, dict) else None
    name = info.get("name") if isinstance(info, dict) else None
    language = LANGUAGES.get({"c++": "cpp"}.get(name.lower(), name.lower())) if isinstance(name, str) else None
    return language.comment if language and language.comment in _LINE_COMMENTS else "#"
