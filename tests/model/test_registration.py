"""The Auto classes: replit's layout and our exports become ours, whatever code a folder brings; others stay native."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, MptConfig, MptForCausalLM

from codelm.errors import ConfigError
from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM, ReplitCodeModel, ReplitCodeTokenizer
from codelm.model.pretrained import load, save_transformers
from codelm.tokenizer import CodeTokenizer

TRUST = [{"trust_remote_code": True}, {"trust_remote_code": False}, {}]
CODE = 'def hello(name):\n    return f"hello, {name}"\n'


@pytest.fixture
def export(make_model, tokenizer_folder, tmp_path) -> Path:
    """What codelm exports for use without codelm; its dropout has no place in native MPT's configuration."""
    model = make_model(attn_config={"attn_pdrop": 0.25})
    save_transformers(model, model.config, tokenizer_folder, tmp_path / "export", native=True)
    return tmp_path / "export"


@pytest.fixture
def other_mpt(published_folder) -> Path:
    """A model as mosaicml/mpt-7b was published: the same architecture and code files, another tokenizer."""
    (published_folder / "spiece.model").unlink()
    fields = json.loads((published_folder / "config.json").read_text())
    fields["tokenizer_name"] = "EleutherAI/gpt-neox-20b"
    (published_folder / "config.json").write_text(json.dumps(fields))
    return published_folder


def as_native(folder: Path) -> MptForCausalLM:
    return MptForCausalLM.from_pretrained(folder).eval()


@pytest.mark.parametrize("trust", TRUST, ids=str)
class TestThePublishedFolder:
    """It loads as ours, and not one line of its Python files is executed."""

    def test_its_configuration(self, published_folder, trust) -> None:
        config = AutoConfig.from_pretrained(published_folder, **trust)
        assert type(config) is ReplitCodeConfig
        assert (config.d_model, config.n_layers, config.eos_token_id) == (64, 2, 1)
        assert not (published_folder / "ran").exists()

    def test_its_model(self, published_folder, ids, trust) -> None:
        model, report = AutoModelForCausalLM.from_pretrained(published_folder, output_loading_info=True, **trust)
        assert type(model) is ReplitCodeForCausalLM
        assert not any(report[f"{what}_keys"] for what in ("missing", "unexpected", "mismatched"))
        assert (model(ids).logits - as_native(published_folder)(ids).logits).abs().max() <= 1e-5
        assert torch.equal(model(ids).logits, load(published_folder)[0](ids).logits)
        assert not (published_folder / "ran").exists()

    def test_its_model_with_an_edited_configuration(self, published_folder, trust) -> None:
        config = AutoConfig.from_pretrained(published_folder, **trust)
        config.attn_config["softmax_scale"] = 0.5
        model = AutoModelForCausalLM.from_pretrained(published_folder, config=config, **trust)
        assert type(model) is ReplitCodeForCausalLM
        assert model.config.attn_config["softmax_scale"] == 0.5
        assert not (published_folder / "ran").exists()

    def test_its_tokenizer(self, published_folder, trust) -> None:
        tokenizer = AutoTokenizer.from_pretrained(published_folder, **trust)
        assert type(tokenizer) is ReplitCodeTokenizer
        assert tokenizer(CODE).input_ids == CodeTokenizer(published_folder).encode(CODE)
        assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2)
        assert not (published_folder / "ran").exists()

    def test_saved_again_it_names_no_code(self, published_folder, tmp_path, trust) -> None:
        for kind in (AutoModelForCausalLM, AutoTokenizer):
            kind.from_pretrained(published_folder, **trust).save_pretrained(tmp_path / "again")
        assert not list((tmp_path / "again").glob("*.py"))
        for name in ("config.json", "tokenizer_config.json"):
            assert "auto_map" not in json.loads((tmp_path / "again" / name).read_text())
        assert type(AutoModelForCausalLM.from_pretrained(tmp_path / "again", **trust)) is ReplitCodeForCausalLM
        assert type(AutoTokenizer.from_pretrained(tmp_path / "again", **trust)) is ReplitCodeTokenizer


def test_the_published_folder_in_a_fresh_process(published_folder) -> None:
    program = """
import sys
import codelm.model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
for trust in ({}, {"trust_remote_code": False}, {"trust_remote_code": True}):
    for kind in (AutoTokenizer, AutoModelForCausalLM, AutoConfig):
        print(type(kind.from_pretrained(sys.argv[1], **trust)).__name__)
"""
    command = [sys.executable, "-c", program, str(published_folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == 3 * ["ReplitCodeTokenizer", "ReplitCodeForCausalLM", "ReplitCodeConfig"]
    assert not (published_folder / "ran").exists()


def test_the_traps_of_these_tests_would_be_seen(published_folder) -> None:
    subprocess.run([sys.executable, published_folder / "modeling_mpt.py"], check=True)
    assert (published_folder / "ran").exists()


def test_the_weights_are_enough_to_be_ours(published_folder) -> None:
    """The one sign left in a folder whose config.json was written by another program is its spiece.model."""
    fields = json.loads((published_folder / "config.json").read_text())
    del fields["tokenizer_name"]
    (published_folder / "config.json").write_text(json.dumps(fields))
    assert type(AutoModelForCausalLM.from_pretrained(published_folder)) is ReplitCodeForCausalLM


def test_a_setting_that_is_not_supported_is_refused_in_a_sentence(published_folder) -> None:
    fields = json.loads((published_folder / "config.json").read_text())
    fields["attn_config"]["prefix_lm"] = True
    (published_folder / "config.json").write_text(json.dumps(fields))
    with pytest.raises(ConfigError, match=r"`attn_config.prefix_lm` to True, but prefix attention is not supported"):
        AutoModelForCausalLM.from_pretrained(published_folder, trust_remote_code=True)


@pytest.mark.parametrize("trust", TRUST, ids=str)
class TestOtherModels:
    """MPT of other origin is transformers' business, and is computed by its own class."""

    def test_another_mpt_is_native(self, other_mpt, ids, trust) -> None:
        assert type(AutoConfig.from_pretrained(other_mpt, **trust)) is MptConfig
        model = AutoModelForCausalLM.from_pretrained(other_mpt, **trust)
        assert type(model) is MptForCausalLM
        assert torch.equal(model(ids).logits, as_native(other_mpt)(ids).logits)
        assert not (other_mpt / "ran").exists()

    def test_native_mpt_survives_its_own_saving(self, other_mpt, tmp_path, ids, trust) -> None:
        model = as_native(other_mpt)
        model.save_pretrained(tmp_path / "saved")
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", **trust)
        assert type(again) is MptForCausalLM
        assert torch.equal(again(ids).logits, model(ids).logits)


def test_native_mpt_is_had_by_naming_it(published_folder, export) -> None:
    for folder in (published_folder, export):
        assert type(MptConfig.from_pretrained(folder)) is MptConfig
        assert type(MptForCausalLM.from_pretrained(folder)) is MptForCausalLM
    assert type(AutoModelForCausalLM.from_config(MptConfig(d_model=32, n_heads=4, n_layers=1))) is MptForCausalLM
    assert type(AutoConfig.for_model("mpt", d_model=32, n_heads=4)) is MptConfig
    assert not (published_folder / "ran").exists()


@pytest.mark.parametrize("trust", TRUST, ids=str)
def test_our_export_is_ours_again(export, make_model, ids, trust) -> None:
    assert json.loads((export / "config.json").read_text())["model_type"] == "mpt"
    model = AutoModelForCausalLM.from_pretrained(export, **trust)
    assert type(model) is ReplitCodeForCausalLM
    assert model.config.attn_config["attn_pdrop"] == 0.25
    assert torch.equal(model(ids).logits, make_model()(ids).logits)
    assert type(AutoModel.from_pretrained(export, **trust)) is ReplitCodeModel


@pytest.mark.parametrize("folder", ["export", "published_folder"])
def test_our_classes_can_be_named(request, ids, folder) -> None:
    path: Any = request.getfixturevalue(folder)
    model = ReplitCodeForCausalLM.from_pretrained(path)
    config = ReplitCodeConfig.from_pretrained(path)
    assert type(config) is ReplitCodeConfig
    assert config.attn_config == model.config.attn_config == load(path)[0].config.attn_config
    assert torch.equal(model(ids).logits, load(path)[0](ids).logits)
    assert not hasattr(model.config, "replit_code")


def test_our_configuration_takes_the_json_of_an_export(export) -> None:
    fields = json.loads((export / "config.json").read_text())
    assert fields["replit_code"] == {"attn_pdrop": 0.25}
    assert ReplitCodeConfig(**fields).attn_config["attn_pdrop"] == 0.25
    with pytest.raises(ConfigError, match=r"`replit_code` is not a mapping"):
        ReplitCodeConfig(**{**fields, "replit_code": 3})
    with pytest.raises(ConfigError, match=r"unknown key `attn_config.attn_drop`; did you mean `attn_pdrop`"):
        ReplitCodeConfig(**{**fields, "replit_code": {"attn_drop": 0.25}})


def test_our_class_takes_what_native_mpt_saved(other_mpt, tmp_path, ids, caplog) -> None:
    native = as_native(other_mpt)
    native.save_pretrained(tmp_path / "saved")
    model = ReplitCodeForCausalLM.from_pretrained(tmp_path / "saved")
    assert (model(ids).logits - native(ids).logits).abs().max() <= 1e-5
    assert "to instantiate a model of type" not in caplog.text
