"""What docs/configuration.md shows is what happens, and every YAML file here loads."""

import re
from pathlib import Path

import pytest

from codelm.config import load_config
from codelm.config.load import SCHEMAS
from codelm.errors import ConfigError

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
YAMLS = sorted((ROOT / "yamls").rglob("*.yaml"))


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
    assert len(OVERRIDES) == 8


@pytest.mark.parametrize("path", YAMLS, ids=[f"{path.parent.name}/{path.name}" for path in YAMLS])
def test_every_yaml_here_loads_as_one_kind(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    faults = {}
    for kind in SCHEMAS:
        try:
            load_config(kind, str(path.relative_to(ROOT)))
        except ConfigError as error:
            faults[kind] = str(error)
    assert len(faults) == len(SCHEMAS) - 1, min(faults.values(), key=len)
