"""The Python in the documents of this room, run as it stands: only the published model's name is another one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import codelm.model  # noqa: F401

DOCS = Path(__file__).parents[2] / "docs"
DEVICE = "cuda:0" if torch.cuda.is_available() else "cpu"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", ["model", "loading", "tokenizer"])
def test_the_code_of_a_document_runs(name, published_folder, tmp_path, monkeypatch) -> None:
    pytest.importorskip("bitsandbytes")
    monkeypatch.chdir(tmp_path)
    # What the text around a block speaks of; a block may go on from the blocks before it.
    known: dict[str, Any] = {
        "path": str(published_folder),
        "folder": str(published_folder),
        "published_config_json": json.loads((published_folder / "config.json").read_text()),
    }
    blocks = BLOCK.findall((DOCS / f"{name}.md").read_text(encoding="utf-8"))
    assert blocks
    for block in blocks:
        known["model"] = AutoModelForCausalLM.from_pretrained(published_folder)
        known["tokenizer"] = AutoTokenizer.from_pretrained(published_folder)
        code = block.replace("replit/replit-code-v1-3b", str(published_folder)).replace("cuda:0", DEVICE)
        exec(compile(code, f"docs/{name}.md", "exec"), known)
    assert not (published_folder / "ran").exists()
