"""Saving and loading: whole or not at all, native to transformers, and one sentence for each kind of damage."""

import errno
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import xxhash
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, MptForCausalLM

from codelm.errors import CheckpointError, ConfigError, EnvironmentFailure, TokenizerError
from codelm.model import ReplitCodeForCausalLM
from codelm.model import saving as module
from codelm.model.pretrained import load, save_transformers
from codelm.model.weights import HASH_FILE
from codelm.tokenizer import CodeTokenizer, JsonTokenizer


@pytest.fixture
def saved(make_model, tokenizer_folder, tmp_path) -> Path:
    """A saved checkpoint of the seed-0 model."""
    model = make_model()
    save_transformers(model, model.config, tokenizer_folder, tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def llama_folder(tmp_path) -> Path:
    """Another architecture with a tokenizer.json, saved by transformers itself."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=300, **shape, tie_word_embeddings=True)).save_pretrained(tmp_path / "llama")
    tokenizer = Tokenizer(models.BPE({chr(0x21 + index): index for index in range(90)}, []))
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(tmp_path / "llama" / "tokenizer.json"))
    (tmp_path / "llama" / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')
    return tmp_path / "llama"


def rewrite(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Put other weights there, on purpose: without the record of the former ones' hash."""
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / HASH_FILE).unlink(missing_ok=True)


def edit_config(folder: Path, **changes: Any) -> None:
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(fields | changes))


def test_a_saved_model_comes_back_as_ours_with_its_exact_tokenizer(saved, make_model, ids) -> None:
    model, tokenizer = load(saved)
    assert type(model) is ReplitCodeForCausalLM
    assert type(tokenizer) is CodeTokenizer
    assert not model.training
    assert model.lm_head.weight is model.transformer.wte.weight
    assert torch.equal(model(ids).logits, make_model()(ids).logits)


def test_transformers_loads_it_as_native_mpt(saved, make_model, ids) -> None:
    model, report = MptForCausalLM.from_pretrained(saved, output_loading_info=True)
    assert not any(report[f"{what}_keys"] for what in ("missing", "unexpected", "mismatched"))
    assert model.lm_head.weight is model.transformer.wte.weight
    assert (model(ids).logits - make_model()(ids).logits).abs().max() <= 1e-5
    assert (model.generation_config.eos_token_id, model.generation_config.pad_token_id) == (1, 2)


def test_the_file_holds_the_published_keys_only(saved) -> None:
    keys = set(load_file(saved / "model.safetensors"))
    assert "lm_head.weight" not in keys
    assert len(keys) == 2 + 2 * 6
    fields = json.loads((saved / "config.json").read_text())
    assert fields["architectures"] == ["MPTForCausalLM"]
    assert fields["attn_config"]["attn_pdrop"] == 0
    assert isinstance(fields["attn_config"]["attn_pdrop"], int)


def test_it_loads_where_codelm_cannot_be_imported(saved, tmp_path) -> None:
    program = """
import sys
sys.modules["codelm"] = None
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
inputs = tokenizer("def f(x):\\n    ", return_tensors="pt")
tokens = model.generate(**inputs, max_new_tokens=5, do_sample=False)[0]
print(type(model).__name__, tokens.tolist())
"""
    done = subprocess.run([sys.executable, "-c", program, str(saved)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    model, tokenizer = load(saved)
    prompt = torch.tensor([tokenizer.encode("def f(x):\n    ")])
    expected = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=5, do_sample=False)
    assert done.stdout.strip() == f"MptForCausalLM {expected[0].tolist()}"


def test_a_state_dict_is_saved_like_its_model(make_model, tokenizer_folder, saved, tmp_path) -> None:
    model = make_model()
    save_transformers(model.state_dict(), model.config, tokenizer_folder, tmp_path / "again")
    for file in saved.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


def test_weights_can_be_written_and_read_in_another_type(make_model, tokenizer_folder, tmp_path, ids) -> None:
    model = make_model()
    save_transformers(model, model.config, tokenizer_folder, tmp_path / "half", dtype=torch.bfloat16)
    assert load(tmp_path / "half")[0].dtype == torch.bfloat16
    back, _ = load(tmp_path / "half", dtype=torch.float32)
    assert back.dtype == torch.float32
    expected = make_model().to(torch.bfloat16).float()
    assert torch.equal(back(ids).logits, expected(ids).logits)


def test_dropout_survives_though_native_mpt_has_no_place_for_it(make_model, tokenizer_folder, tmp_path) -> None:
    model = make_model(attn_config={"attn_pdrop": 0.2}, resid_pdrop=0.1)
    save_transformers(model, model.config, tokenizer_folder, tmp_path / "dropout")
    loaded = load(tmp_path / "dropout")[0]
    assert loaded.config.attn_config["attn_pdrop"] == 0.2
    assert loaded.config.resid_pdrop == 0.1
    assert loaded.transformer.blocks[0].attn.dropout == 0.2
    assert MptForCausalLM.from_pretrained(tmp_path / "dropout").config.attn_config.attn_pdrop == 0


@pytest.mark.parametrize("changes", [{"expansion_ratio": 3}, {"attn_config": {"alibi_bias_max": 4}}])
def test_what_native_mpt_would_get_wrong_is_refused_or_kept_for_codelm(
    make_model, tokenizer_folder, tmp_path, ids, changes
) -> None:
    model = make_model(**changes)
    with pytest.raises(CheckpointError, match="transformers' own MPT ignores"):
        save_transformers(model, model.config, tokenizer_folder, tmp_path / "native", native=True)
    assert not list(tmp_path.iterdir())
    save_transformers(model, model.config, tokenizer_folder, tmp_path / "own")
    assert torch.equal(load(tmp_path / "own")[0](ids).logits, model(ids).logits)
    assert json.loads((tmp_path / "own" / "config.json").read_text())["model_type"] == "replit_code"


def test_a_runs_folder_is_read_at_its_latest_checkpoint(saved, tmp_path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    saved.rename(run / "ba000010")
    (run / "latest").symlink_to("ba000010")
    assert type(load(run)[0]) is ReplitCodeForCausalLM
    shutil.rmtree(run / "ba000010")
    with pytest.raises(CheckpointError, match="ba000010, which is gone"):
        load(run)


def test_the_published_layout_is_read(saved, make_model, ids) -> None:
    weights = load_file(saved / "model.safetensors")
    torch.save(weights, saved / "pytorch_model.bin")
    (saved / "model.safetensors").unlink()
    for name in (HASH_FILE, "tokenizer.json", "tokenizer_config.json", "fingerprint.json", "generation_config.json"):
        (saved / name).unlink()
    auto_map = {"AutoModelForCausalLM": "modeling_mpt.MPTForCausalLM"}
    edit_config(saved, auto_map=auto_map, verbose=0, init_device="cpu", tokenizer_name="replit/replit-code-v1-3b")
    assert torch.equal(load(saved)[0](ids).logits, make_model()(ids).logits)


def test_shards_are_read_together(saved, make_model, ids) -> None:
    weights = load_file(saved / "model.safetensors")
    (saved / "model.safetensors").unlink()
    names = sorted(weights)
    files = {name: f"model-{index % 2}.safetensors" for index, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: weights[name] for name in names if files[name] == file}, saved / file)
    (saved / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    (saved / HASH_FILE).unlink()
    assert torch.equal(load(saved)[0](ids).logits, make_model()(ids).logits)


def test_pickled_shards_are_read_together(saved, make_model, ids) -> None:
    weights = load_file(saved / "model.safetensors")
    files = {name: f"pytorch_model-{index % 3}.bin" for index, name in enumerate(sorted(weights))}
    for file in set(files.values()):
        torch.save({name: weights[name] for name in weights if files[name] == file}, saved / file)
    (saved / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": files}))
    (saved / "model.safetensors").unlink()
    (saved / HASH_FILE).unlink()
    assert torch.equal(load(saved)[0](ids).logits, make_model()(ids).logits)


def test_any_causal_language_model_is_loaded_and_saved(llama_folder, tmp_path) -> None:
    model, tokenizer = load(llama_folder)
    assert type(model) is LlamaForCausalLM
    assert type(tokenizer) is JsonTokenizer
    save_transformers(model.state_dict(), model.config, llama_folder, tmp_path / "copy")
    again, _ = load(tmp_path / "copy")
    ids = torch.arange(20)[None]
    assert torch.equal(again(ids).logits, model(ids).logits)
    assert type(AutoModelForCausalLM.from_pretrained(tmp_path / "copy")) is LlamaForCausalLM
    assert AutoTokenizer.from_pretrained(tmp_path / "copy").eos_token == "<|endoftext|>"


def test_an_mpt_model_with_another_tokenizer_is_computed_by_ours(saved, llama_folder, make_model, ids) -> None:
    for name in ("spiece.model", "fingerprint.json", "tokenizer_config.json", "tokenizer_mismatch.json"):
        (saved / name).unlink()
    shutil.copy(llama_folder / "tokenizer.json", saved)
    shutil.copy(llama_folder / "tokenizer_config.json", saved)
    fields = json.loads((saved / "config.json").read_text())
    for name in ("replit_code", "bos_token_id", "eos_token_id", "pad_token_id"):
        del fields[name]
    (saved / "config.json").write_text(json.dumps(fields))
    model, tokenizer = load(saved)
    assert type(model) is ReplitCodeForCausalLM
    assert type(tokenizer) is JsonTokenizer
    assert model.config.eos_token_id is None, "1 is the end of text in replit's vocabulary, not in any other"
    assert torch.equal(model(ids).logits, make_model()(ids).logits)


def test_the_attention_of_our_model_can_be_chosen(saved) -> None:
    assert load(saved)[0].config.attn_config["attn_impl"] == "torch"
    assert load(saved, attn_impl="triton")[0].config.attn_config["attn_impl"] == "triton"
    with pytest.raises(ConfigError, match=r"`attn_config.attn_impl` to 'sdpa'.*supported: torch, triton, flash"):
        load(saved, attn_impl="sdpa")


def test_the_attention_of_other_models_can_be_chosen(llama_folder) -> None:
    for name in ("eager", "sdpa"):
        assert load(llama_folder, attn_impl=name)[0].config._attn_implementation == name
    with pytest.raises(ConfigError, match=r"attn_impl is 'triton', but .* takes eager, flash_attention_2, sdpa"):
        load(llama_folder, attn_impl="triton")


@pytest.mark.parametrize(
    "device_map", ["cpu", "auto", torch.device("cpu"), {"": "cpu"}, {"transformer": "cpu", "lm_head": "cpu"}]
)
def test_a_model_goes_where_the_device_map_says(saved, make_model, ids, device_map) -> None:
    model, _ = load(saved, device_map=device_map)
    assert model(ids).logits.device.type == ("cuda" if device_map == "auto" and torch.cuda.is_available() else "cpu")
    assert torch.allclose(model(ids.to(model.device)).logits.cpu(), make_model()(ids).logits, atol=1e-4)


@pytest.mark.parametrize(
    ("device_map", "sentence"),
    [
        ("automatic", "device_map is 'automatic'; use auto, a device"),
        ({"": "gpu7"}, r"device_map\[''\] is 'gpu7'; use auto"),
        ({"transformer": "cpu"}, "device_map cannot be followed"),
        ({"decoder": "cpu"}, "names 'decoder', which is no part of ReplitCodeForCausalLM"),
    ],
)
def test_a_device_map_that_leads_nowhere(saved, device_map, sentence) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load(saved, device_map=device_map)


def test_spreading_without_accelerate(saved, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(EnvironmentFailure, match="needs the package accelerate: pip install"):
        load(saved, device_map={"transformer": "cpu", "lm_head": "cpu"})


def test_saved_weights_come_with_a_hash_that_xxhsum_can_check(saved) -> None:
    hashed, name = (saved / HASH_FILE).read_text().split()
    assert name == "model.safetensors"
    assert hashed == xxhash.xxh3_128_hexdigest((saved / name).read_bytes())


class TestDamage:
    """Each kind gives one sentence that names the thing."""

    def refused(self, folder: Path, sentence: str, error: type = CheckpointError) -> None:
        with pytest.raises(error) as refusal:
            load(folder)
        assert sentence in str(refusal.value)
        assert "\n" not in str(refusal.value)

    def test_no_folder(self, tmp_path) -> None:
        self.refused(tmp_path / "nothing", "there is no checkpoint at")

    def test_a_file(self, saved) -> None:
        self.refused(saved / "config.json", "is a file; name the checkpoint's folder")

    def test_no_config(self, saved) -> None:
        (saved / "config.json").unlink()
        self.refused(saved, "it has no config.json")

    def test_torn_config(self, saved) -> None:
        (saved / "config.json").write_text('{"model_type": ')
        self.refused(saved, "config.json is not valid JSON")

    @pytest.mark.parametrize("content", ["{}", "[]", '{"model_type": 3}', '{"d_model": 48}'])
    def test_a_config_of_no_model(self, saved, content) -> None:
        (saved / "config.json").write_text(content)
        self.refused(saved, "config.json is not a model's configuration (no model_type)")

    def test_no_weights(self, saved) -> None:
        (saved / "model.safetensors").unlink()
        self.refused(saved, "model.safetensors are missing")
        (saved / HASH_FILE).unlink()
        self.refused(saved, "holds no weights")

    def test_torn_weights(self, saved) -> None:
        content = (saved / "model.safetensors").read_bytes()
        (saved / "model.safetensors").write_bytes(content[: len(content) // 2])
        (saved / HASH_FILE).unlink()
        self.refused(saved, "model.safetensors cannot be read")

    @pytest.mark.parametrize("left", [0.0, 0.001, 0.5, 0.9])
    def test_torn_pickled_weights(self, saved, left) -> None:
        torch.save(load_file(saved / "model.safetensors"), saved / "pytorch_model.bin")
        (saved / "model.safetensors").unlink()
        (saved / HASH_FILE).unlink()
        content = (saved / "pytorch_model.bin").read_bytes()
        (saved / "pytorch_model.bin").write_bytes(content[: int(left * len(content))])
        self.refused(saved, "pytorch_model.bin ")

    def test_one_flipped_bit(self, saved) -> None:
        content = bytearray((saved / "model.safetensors").read_bytes())
        content[-1] ^= 1
        (saved / "model.safetensors").write_bytes(content)
        self.refused(saved, "model.safetensors has hash")
        (saved / HASH_FILE).unlink()
        load(saved)

    def test_a_torn_record_of_hashes(self, saved) -> None:
        (saved / HASH_FILE).write_text("0123456789")
        self.refused(saved, "weights.xxh128 is not a list of hashes")

    def test_a_shard_that_is_gone_torn_or_of_another_checkpoint(self, saved) -> None:
        weights = load_file(saved / "model.safetensors")
        names = sorted(weights)
        (saved / "model.safetensors").rename(saved / "all.safetensors")
        (saved / HASH_FILE).unlink()
        save_file({names[0]: weights[names[0]]}, saved / "one.safetensors")
        index = {"weight_map": {names[0]: "one.safetensors", **dict.fromkeys(names[1:], "others.safetensors")}}
        (saved / "model.safetensors.index.json").write_text(json.dumps(index))
        self.refused(saved, "others.safetensors are missing")
        save_file({name: weights[name] for name in names[2:]}, saved / "others.safetensors")
        self.refused(saved, f"names 1 weights ({names[1]}) that its shards do not hold")
        (saved / "others.safetensors").write_bytes(b"torn")
        self.refused(saved, "others.safetensors cannot be read")

    @pytest.mark.parametrize("shard", ["../all.safetensors", "/etc/passwd", 3, None])
    def test_an_index_that_points_outside(self, saved, shard) -> None:
        (saved / "model.safetensors").rename(saved / "all.safetensors")
        (saved / HASH_FILE).unlink()
        (saved / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
        self.refused(saved, f"names {shard!r}, which is no file of its own folder")

    @pytest.mark.parametrize("index", ["[]", '{"weight_map": []}', "{", "{}"])
    def test_a_torn_index(self, saved, index) -> None:
        (saved / "model.safetensors").unlink()
        (saved / HASH_FILE).unlink()
        (saved / "model.safetensors.index.json").write_text(index)
        self.refused(saved, "is not a weight index")

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_a_weight_that_is_no_number(self, saved, value, dtype) -> None:
        weights = {name: tensor.to(dtype) for name, tensor in load_file(saved / "model.safetensors").items()}
        weights["transformer.blocks.1.ffn.up_proj.weight"][3, 5] = value
        rewrite(saved, weights)
        self.refused(saved, "transformer.blocks.1.ffn.up_proj.weight holds NaN or infinite weights")

    def test_a_weight_that_is_no_number_in_another_model(self, llama_folder) -> None:
        weights = load_file(llama_folder / "model.safetensors")
        weights["model.norm.weight"][0] = float("nan")
        rewrite(llama_folder, weights)
        self.refused(llama_folder, "model.norm.weight holds NaN or infinite weights")

    def test_empty_weights(self, saved) -> None:
        (saved / HASH_FILE).unlink()
        (saved / "model.safetensors").write_bytes(b"")
        self.refused(saved, "model.safetensors cannot be read")

    def test_a_pickle_that_would_run_code(self, saved, tmp_path) -> None:
        class Payload:
            def __reduce__(self):
                return (open, (str(tmp_path / "pwned"), "w"))

        (saved / "model.safetensors").unlink()
        (saved / HASH_FILE).unlink()
        torch.save({"transformer.wte.weight": Payload()}, saved / "pytorch_model.bin")
        self.refused(saved, "holds more than tensors")
        with pytest.raises((pickle.UnpicklingError, OSError)):
            AutoModelForCausalLM.from_pretrained(saved)
        assert not (tmp_path / "pwned").exists()

    def test_a_bare_pickle_that_would_run_code(self, saved, tmp_path, recwarn) -> None:
        class Payload:
            def __reduce__(self):
                return (open, (str(tmp_path / "pwned"), "w"))

        (saved / "model.safetensors").unlink()
        (saved / HASH_FILE).unlink()
        (saved / "pytorch_model.bin").write_bytes(pickle.dumps(Payload()))
        self.refused(saved, "holds more than tensors")
        assert not (tmp_path / "pwned").exists()
        assert not [warning for warning in recwarn if "pickle" in str(warning.message)]

    @pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], {"a": 1}], ids=["tensor", "list", "numbers"])
    def test_a_pickle_of_something_else(self, saved, content) -> None:
        (saved / "model.safetensors").unlink()
        (saved / HASH_FILE).unlink()
        torch.save(content, saved / "pytorch_model.bin")
        self.refused(saved, "holds something else than a state dict")

    def test_missing_and_unknown_weights(self, saved) -> None:
        weights = load_file(saved / "model.safetensors")
        weights["transformer.wpe.weight"] = weights.pop("transformer.norm_f.weight")
        rewrite(saved, weights)
        self.refused(saved, "1 missing (transformer.norm_f.weight) and 1 unknown (transformer.wpe.weight)")

    def test_weights_of_another_shape(self, saved) -> None:
        edit_config(saved, vocab_size=640)
        self.refused(saved, "transformer.wte.weight has shape (600, 48), not (640, 48)")

    def test_an_output_layer_that_is_not_the_embedding(self, saved) -> None:
        weights = load_file(saved / "model.safetensors")
        weights["lm_head.weight"] = weights["transformer.wte.weight"] + 1
        rewrite(saved, weights)
        self.refused(saved, "their weights differ")

    def test_a_setting_that_is_not_supported(self, saved) -> None:
        edit_config(saved, logit_scale=-2.0)
        self.refused(saved, "config.json: the model configuration sets `logit_scale` to -2.0")

    @pytest.mark.parametrize("attention", [{"prefix_lm": True}, {"rope": True}, 3])
    def test_attention_that_is_not_supported(self, saved, attention) -> None:
        edit_config(saved, attn_config=attention)
        self.refused(saved, "config.json: ")

    @pytest.mark.parametrize("shape", [{"d_model": "48"}, {"n_heads": 0}, {"n_layers": None}, {"d_model": 50}])
    def test_a_shape_that_is_none(self, saved, shape) -> None:
        edit_config(saved, **shape)
        self.refused(saved, "config.json: ")

    def test_another_architecture(self, saved) -> None:
        edit_config(saved, model_type="t5")
        self.refused(saved, "(model_type 't5') cannot be loaded as a causal language model")

    def test_an_architecture_that_nobody_knows(self, saved) -> None:
        edit_config(saved, model_type="strange")
        self.refused(saved, "(model_type 'strange') cannot be loaded as a causal language model: ")
        with pytest.raises(CheckpointError, match=r"^[^\n]*[^.]$") as refusal:
            load(saved)
        assert ". " not in str(refusal.value)

    def test_an_architecture_that_needs_remote_code(self, llama_folder) -> None:
        edit_config(llama_folder, model_type="strange", auto_map={"AutoConfig": "code.Config"})
        self.refused(llama_folder, "(model_type 'strange') cannot be loaded as a causal language model: it comes with")

    def test_another_model_with_missing_weights(self, llama_folder) -> None:
        weights = load_file(llama_folder / "model.safetensors")
        del weights["model.norm.weight"]
        rewrite(llama_folder, weights)
        self.refused(llama_folder, "1 weights missing (model.norm.weight)")

    def test_no_tokenizer(self, saved) -> None:
        for name in ("spiece.model", "tokenizer.json"):
            (saved / name).unlink()
        self.refused(saved, "holds neither spiece.model nor tokenizer.json", TokenizerError)

    def test_a_tokenizer_with_more_tokens_than_the_model(self, saved) -> None:
        weights = load_file(saved / "model.safetensors")
        weights["transformer.wte.weight"] = weights["transformer.wte.weight"][:500].clone()
        rewrite(saved, weights)
        edit_config(saved, vocab_size=500)
        self.refused(saved, "has 600 tokens, but the model embeds 500")


class TestSaving:
    """A folder is written whole, under its name only when it is, and never over another."""

    def test_nothing_is_overwritten(self, saved, make_model, tokenizer_folder) -> None:
        before = {file.name: file.read_bytes() for file in saved.iterdir()}
        model = make_model(n_layers=1)
        with pytest.raises(CheckpointError, match="already exists"):
            save_transformers(model, model.config, tokenizer_folder, saved)
        assert {file.name: file.read_bytes() for file in saved.iterdir()} == before

    def test_an_empty_folder_may_be_filled(self, make_model, tokenizer_folder, tmp_path) -> None:
        (tmp_path / "empty").mkdir()
        model = make_model()
        save_transformers(model, model.config, tokenizer_folder, tmp_path / "empty")
        assert type(load(tmp_path / "empty")[0]) is ReplitCodeForCausalLM

    def test_the_files_are_readable_by_whom_the_folder_is(self, saved) -> None:
        assert len({file.stat().st_mode for file in saved.iterdir()}) == 1

    @pytest.mark.parametrize("broken", ["write_weights", "write_fast_tokenizer", "sync_to_disk"])
    def test_a_full_disk_leaves_nothing_behind(
        self, make_model, tokenizer_folder, tmp_path, monkeypatch, broken
    ) -> None:
        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", "model.safetensors")

        monkeypatch.setattr(module, broken, full)
        model = make_model()
        with pytest.raises(EnvironmentFailure, match="the disk is full"):
            save_transformers(model, model.config, tokenizer_folder, tmp_path / "saved")
        assert not list(tmp_path.iterdir())

    def test_a_state_dict_of_another_model(self, make_model, tokenizer_folder, tmp_path) -> None:
        with pytest.raises(CheckpointError, match=r"does not fit its configuration: weights 6 missing"):
            save_transformers(
                make_model(n_layers=1).state_dict(), make_model().config, tokenizer_folder, tmp_path / "saved"
            )

    def test_a_tokenizer_that_is_too_large(self, make_model, tokenizer_folder, tmp_path) -> None:
        model = make_model(vocab_size=128)
        with pytest.raises(CheckpointError, match="has 600 tokens, but the model embeds 128"):
            save_transformers(model, model.config, tokenizer_folder, tmp_path / "saved")
