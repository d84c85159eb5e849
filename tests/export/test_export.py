"""The export recipe: checked against its source, with a card that says what it is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import MptForCausalLM

from codelm.data.manifest import load_manifest
from codelm.errors import CheckpointError
from codelm.export.export import export
from codelm.export.parity import check_parity
from codelm.model.pretrained import load

RECIPE = Path(__file__).parents[2] / "eval" / "export.py"


def recipe(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, RECIPE, *map(str, arguments)], capture_output=True, text=True)


def test_the_recipe_exports_and_prints_what_it_measured(checkpoint, corpus, tmp_path) -> None:
    output = tmp_path / "out"
    done = recipe(checkpoint, "--to", "transformers", "-o", output)
    assert done.returncode == 0, done.stderr
    assert "greedy tokens are the same" in done.stdout
    assert "tokenizer.json differs from sentencepiece on" in done.stdout
    assert f"exported: {output}" in done.stdout
    assert MptForCausalLM.from_pretrained(output).config.model_type == "mpt"
    card = (output / "README.md").read_text()
    streams = load_manifest(corpus).splits["train"]
    files = streams["python"].files
    for words in ("12 batches, 3,072 tokens", "freshly initialised", f"| Python | 75.0% | {files} |", "Limits"):
        assert words in card
    shares = [stream.sources["python"] for stream in streams.values() if "python" in stream.sources]
    assert f"| python | PSF-2.0 | {sum(s.files for s in shares)} | {sum(s.tokens for s in shares):,} |" in card
    assert f"or the declaration): PSF-2.0 ({sum(stream.files for stream in streams.values())})." in card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]


def test_a_corpus_that_is_another_one_by_now_is_not_described(checkpoint, tmp_path) -> None:
    run = checkpoint / "latest" / "run.json"
    fields = json.loads(run.read_text())
    fields["data"]["manifest_hash"] = "0" * 64
    run.write_text(json.dumps(fields))
    export(checkpoint, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| Python | 75.0% |  |  |" in card
    assert "is no longer where the run found it, or is another one by now; its sources" in card


def test_a_remote_corpus_is_described_as_a_local_one_is(checkpoint, corpus, tmp_path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/uploaded/manifest.json", (corpus / "manifest.json").read_bytes())
    run = checkpoint / "latest" / "run.json"
    fields = json.loads(run.read_text())
    fields["config"]["train_data"]["path"] = "memory://uploaded"
    run.write_text(json.dumps(fields))
    try:
        export(checkpoint, tmp_path / "out")
    finally:
        memory.rm("/uploaded", recursive=True)
    assert "| python | PSF-2.0 | " in (tmp_path / "out" / "README.md").read_text()


LOAD = """
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained({folder!r})
tokenizer = AutoTokenizer.from_pretrained({folder!r})
ids = tokenizer("def f(x):\\n\\treturn", return_tensors="pt").input_ids
print(type(model).__name__, "codelm" in sys.modules, model(ids).logits[0, -1].double().sum().item(), ids.tolist())
"""


def test_it_loads_as_native_mpt_without_codelm_and_as_our_class_with_it(checkpoint, tmp_path) -> None:
    export(checkpoint, tmp_path / "out")
    answers = []
    for first_line, name in (("import sys", "MptForCausalLM"), ("import sys, codelm.model", "ReplitCodeForCausalLM")):
        program = first_line + LOAD.format(folder=str(tmp_path / "out"))
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        cls, imported, total, ids = done.stdout.splitlines()[-1].split(maxsplit=3)
        assert (cls, imported) == (name, str("codelm" in first_line))
        answers.append((round(float(total), 3), ids))
    assert answers[0] == answers[1]


def test_the_code_in_the_card_runs(checkpoint, tmp_path) -> None:
    export(checkpoint, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    program = card.split("```python\n")[1].split("```")[0].replace("PATH", str(tmp_path / "out"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "def fibonacci(n):" in done.stdout


def test_an_export_in_bf16_equals_its_rounded_source(checkpoint, tmp_path) -> None:
    exported = export(checkpoint, tmp_path / "out", dtype=torch.bfloat16)
    difference = float(exported.measured["transformers"][0].split("at most ")[1].split()[0])
    assert difference < 1e-4
    assert load(tmp_path / "out")[0].dtype == torch.bfloat16
    assert "| weights | bfloat16 |" in (tmp_path / "out" / "README.md").read_text()


def test_an_export_that_computes_something_else_is_caught(checkpoint, tmp_path) -> None:
    output = tmp_path / "out"
    export(checkpoint, output)
    weights = load_file(output / "model.safetensors")
    weights["transformer.blocks.1.ffn.up_proj.weight"] *= 1.01
    save_file(weights, output / "model.safetensors", metadata={"format": "pt"})
    model, tokenizer = load(checkpoint)
    with pytest.raises(CheckpointError, match="does not compute what its source does: logits differ by at most"):
        check_parity(model, tokenizer, output)


def test_an_export_whose_tokenizer_loses_text_is_caught(checkpoint, tmp_path) -> None:
    output = tmp_path / "out"
    export(checkpoint, output)
    fields = json.loads((output / "tokenizer.json").read_text())
    fields["normalizer"] = {"type": "Lowercase"}
    (output / "tokenizer.json").write_text(json.dumps(fields))
    model, tokenizer = load(checkpoint)
    with pytest.raises(CheckpointError, match="3 of 5 texts come back as from"):
        check_parity(model, tokenizer, output)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param(("nowhere", "-o", "out"), "there is no folder nowhere", marks=pytest.mark.slow),
        (("run", "-o", "run"), "run already exists; name another folder or remove it"),
        pytest.param(("run/ba000012/config.json", "-o", "out"), "is a file; name", marks=pytest.mark.slow),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(checkpoint, tmp_path, arguments, sentence) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, RECIPE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == (1 if arguments[0] == "nowhere" else 2)
    assert done.stderr.count("\n") == 1
    assert sentence in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_help_is_quick_and_names_the_exit_codes() -> None:
    done = recipe("--help")
    assert done.returncode == 0
    assert "Exit code 2" in done.stdout.replace("\n", " ")
