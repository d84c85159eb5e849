"""What docs/configuration.md shows is what happens, and every YAML file here loads."""

import re
from pathlib import Path

import pytest

from codelm.config import load_config
from codelm.config.load import SCHEMAS
from codelm.errors import ConfigError

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
YAMLS = sorted((ROOT / "yamls").glob("*/*.yaml"))
OVERLAYS = {"scale_down_data.yaml": "data", "scale_down_run.yaml": "train", "scale_down.yaml": "train"}


@pytest.fixture
def pages_files(write):
    for name, text in re.findall(r"```yaml\n(# (?:\w+\.yaml)\n)(.*?)```", PAGE, re.DOTALL):
        write(name.removeprefix("# ").strip(), name + text)


@pytest.mark.usefixtures("pages_files")
def test_the_pages_mistakes_give_the_pages_lines(problems):
    (expected,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert problems("train", "bad.yaml") == expected.splitlines()


@pytest.mark.usefixtures("pages_files")
def test_the_pages_child_is_what_the_page_says():
    config = load_config("train", "child.yaml")
    assert (config.model.n_layers, config.model.d_model) == (2, 256)
    assert config.train_data.mixture == {"python": 1.0}
    assert (config.optimizer.name, config.optimizer.lr, config.optimizer.weight_decay) == ("lionw", 3e-4, 1e-5)
    assert (config.save_folder, config.tokenizer.path) == ("runs/child", "runs/corpus/tokenizer")


OVERRIDES = [re.findall(r"`'?([^`']*)'?`", row)[0] for row in PAGE.splitlines() if re.match(r"\| `'?\w[\w.]*=", row)]


@pytest.mark.usefixtures("pages_files")
@pytest.mark.parametrize("row", OVERRIDES)
def test_the_pages_overrides_load(row):
    arguments = re.split(r" (?=[\w.]+=)", row)
    assert (
        load_config("train", "base.yaml", arguments) != load_config("train", "base.yaml") or row == "fsdp_config=null"
    )


@pytest.mark.usefixtures("pages_files")
def test_the_pages_python_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "configuration.md", "exec"), {})
    assert capsys.readouterr().out.startswith("0.0003 {'python': 1.0}\n")


def test_the_page_names_every_override_row():
    assert len(OVERRIDES) == 9


def kind_of(path):
    """The kind that a file loads as; a problem of the likeliest one otherwise."""
    faults = {}
    for kind in SCHEMAS:
        try:
            load_config(kind, str(path.relative_to(ROOT)))
        except ConfigError as error:
            faults[kind] = str(error)
    assert len(faults) == len(SCHEMAS) - 1, min(faults.values(), key=len)
    return next(kind for kind in SCHEMAS if kind not in faults)


@pytest.mark.parametrize("path", YAMLS, ids=[f"{path.parent.name}/{path.name}" for path in YAMLS])
def test_every_yaml_here_loads_as_one_kind_and_can_be_scaled_down(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    kind = kind_of(path)
    for overlay, overlay_kind in OVERLAYS.items():
        if kind != overlay_kind:
            continue
        arguments = [f"yamls/{overlay}"]
        ours = kind == "data" or load_config(kind, str(path)).model.name == "replit_code"
        if overlay == "scale_down.yaml" and not ours:
            with pytest.raises(ConfigError, match=r"yamls/scale_down.yaml:\d+:3: model.d_model: unknown key"):
                load_config(kind, str(path.relative_to(ROOT)), arguments)
        else:
            assert load_config(kind, str(path.relative_to(ROOT)), arguments).max_seq_len == 256


def test_every_file_beside_the_folders_is_such_an_overlay():
    assert {path.name for path in (ROOT / "yamls").glob("*.yaml")} == set(OVERLAYS)


def test_the_model_of_a_scaled_down_run_has_the_shape_of_the_quickstarts(monkeypatch):
    monkeypatch.chdir(ROOT)
    shapes = [
        load_config("train", *arguments).model.model_dump(include={"d_model", "n_heads", "n_layers", "expansion_ratio"})
        for arguments in (
            ("yamls/quickstart/train.yaml",),
            ("yamls/pretrain/3b.yaml", ["yamls/scale_down.yaml"]),
        )
    ]
    assert shapes[0] == shapes[1]
