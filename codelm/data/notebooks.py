"""Jupyter notebooks as scripts: the cells in order, in the `# %%` form that editors know, outputs left out."""

import json


def notebook_to_script(notebook: str) -> str | None:
    """The script of a notebook's JSON, or None when it is not one. Markdown becomes comments."""
    try:
        fields = json.loads(notebook)
        cells = fields["cells"] if "cells" in fields else fields["worksheets"][0]["cells"]
        return "\n".join(part for cell in cells if (part := _cell(cell)))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None


def _cell(cell: dict) -> str:
    source = cell["source"] if "source" in cell else cell.get("input", "")
    text = source if isinstance(source, str) else "".join(source)
    if not text.strip():
        return ""
    if cell["cell_type"] == "code":
        return f"# %%\n{text}\n"
    return "# %% [markdown]\n" + "".join(f"# {line}".rstrip() + "\n" for line in text.split("\n"))
