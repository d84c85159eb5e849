"""GGUF, run in llama.cpp itself: what leaves computes and encodes there as it does here; what cannot is refused."""

import errno
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sentencepiece.sentencepiece_model_pb2 import ModelProto
from transformers import GPT2Config, GPT2LMHeadModel

from codelm.errors import CheckpointError, CodelmError, EnvironmentFailure
from codelm.export.export import export
from codelm.export.gguf_file import gguf_obstacle, write_gguf
from codelm.export.gguf_vocabulary import BYTE, NORMAL, USER_DEFINED, gguf_vocabulary
from codelm.export.llama_parity import HOW_TO_GET_IT, check_llama_parity
from codelm.export.llama_server import llama_server
from codelm.export.modelfile import modelfile
from codelm.model import ReplitCodeConfig
from codelm.model.pretrained import load
from codelm.model.saving import save_transformers
from codelm.tokenizer import load_tokenizer

pytest.importorskip("xllamacpp")
gguf = pytest.importorskip("gguf")

RECIPE = Path(__file__).parents[2] / "eval" / "export.py"
HOSTILE = [
    "é naïve λ → 日本語 🙂",
    "\u2581 x\u2581\u2581",
    "\t\tif x:\r\n\t",
    "<|endoftext|><fim_prefix>",
    "<0xE2> <0x0A>",
    "\x7f\x1b[0m",
    "a   b  \n\n\n",
    "\ufeffimport é́",
]


def read(file: Path) -> tuple[dict, dict]:
    reader = gguf.GGUFReader(file)
    fields = {name: field for name, field in reader.fields.items() if name != "tokenizer.ggml.tokens"}
    return {name: field.contents() for name, field in fields.items()}, {t.name: t for t in reader.tensors}


def test_the_recipe_writes_all_formats_and_prints_what_llama_cpp_computed(checkpoint, tmp_path) -> None:
    command = [sys.executable, RECIPE, str(checkpoint), "--to", "all", "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "transformers: logits differ by at most" in done.stdout
    assert "gguf: in llama.cpp, " in done.stdout
    assert "gguf: llama.cpp's ids differ from sentencepiece's on 0 of " in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["gguf", "transformers"]
    names = sorted(path.name for path in (tmp_path / "out" / "gguf").iterdir())
    assert names == ["Modelfile", "README.md", "lineage.json", "out-f16.gguf"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]
    card = (tmp_path / "out" / "gguf" / "README.md").read_text()
    for words in ("llama-server -m out-f16.gguf -c 64", "12 batches, 3,072 tokens", "| python | PSF-2.0 |"):
        assert words in card


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_heads": 6, "d_model": 96},
        {"expansion_ratio": 2, "layer_norm_epsilon": 0.01},
        {"attn_config": {"alibi_bias_max": 16}},
        {"attn_config": {"clip_qkv": 0.5}},
        {"attn_config": {"alibi": False}, "learned_pos_emb": True},
        {"no_bias": False},
        {"attn_config": {"attn_type": "multiquery_attention"}},
        {"attn_config": {"attn_type": "grouped_query_attention", "kv_n_heads": 2}},
        {"vocab_size": 530},
    ],
    ids=str,
)
def test_llama_cpp_computes_each_setting_that_leaves(make_checkpoint, tmp_path, changes) -> None:
    model, tokenizer = load(make_checkpoint(**changes))
    assert gguf_obstacle(model.config, tokenizer) is None
    write_gguf(model, tokenizer, tokenizer.path, tmp_path / "x.gguf", "f16", "x")
    parity = check_llama_parity(model, tokenizer, tmp_path / "x.gguf", "f16")
    assert parity.ids.differing_files == 0
    assert parity.logprobs > 500


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"logit_scale": 0.5}, "logit_scale 0.5"),
        ({"attn_config": {"softmax_scale": 0.1}}, "attn_config.softmax_scale 0.1"),
        ({"norm_type": "rmsnorm"}, "norm_type rmsnorm"),
        ({"attn_config": {"qk_ln": True}}, "attn_config.qk_ln true"),
        ({"attn_config": {"sliding_window_size": 8}}, "attn_config.sliding_window_size 8"),
    ],
)
def test_what_llama_cpp_does_not_compute_is_refused(make_checkpoint, tmp_path, changes, name) -> None:
    with pytest.raises(CheckpointError, match=f"the model has {name}, which llama.cpp does not compute"):
        export(make_checkpoint(**changes), tmp_path / "out", ("gguf",))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_scale_of_attention_that_is_the_usual_one_leaves(corpus) -> None:
    config = ReplitCodeConfig(d_model=64, n_heads=4, n_layers=1, attn_config={"softmax_scale": 0.25})
    assert gguf_obstacle(config, load_tokenizer(corpus / "tokenizer")) is None


@pytest.mark.parametrize(("gguf_type", "bits"), [("f16", "F16"), ("q8_0", "Q8_0")])
def test_the_file_holds_the_weights_in_its_type_and_norms_in_fp32(make_checkpoint, tmp_path, gguf_type, bits) -> None:
    folder = make_checkpoint()
    export(folder, tmp_path / "out", ("gguf",), gguf_type=gguf_type)
    fields, tensors = read(tmp_path / "out" / f"out-{gguf_type}.gguf")
    source = load(folder)[0].state_dict()
    given = tensors["blk.1.attn_qkv.weight"]
    assert given.tensor_type.name == bits
    assert tensors["token_embd.weight"].tensor_type.name == bits
    assert {tensors[name].tensor_type.name for name in ("output_norm.weight", "blk.0.ffn_norm.weight")} == {"F32"}
    back = gguf.quants.dequantize(given.data, given.tensor_type)
    weights = source["transformer.blocks.1.attn.Wqkv.weight"].numpy()
    assert np.abs(back - weights).max() < (1e-3 if gguf_type == "f16" else 1e-2) * np.abs(weights).max()
    assert "output.weight" not in tensors
    assert fields["general.architecture"] == "mpt"
    assert fields["mpt.attention.max_alibi_bias"] == 8.0
    assert fields["mpt.context_length"] == 128
    assert fields["tokenizer.ggml.model"] == "t5"
    assert fields["tokenizer.ggml.eos_token_id"] == 1
    assert fields["tokenizer.ggml.fim_pre_token_id"] == 3
    assert "tokenizer.ggml.bos_token_id" not in fields
    assert not fields["tokenizer.ggml.add_bos_token"]
    assert not fields["tokenizer.ggml.add_space_prefix"]


def test_llama_cpp_encodes_what_is_hard_to_encode_as_sentencepiece_does(make_checkpoint, tmp_path) -> None:
    model, tokenizer = load(make_checkpoint())
    write_gguf(model, tokenizer, tokenizer.path, tmp_path / "x.gguf", "f16", "x")
    with llama_server(tmp_path / "x.gguf", 64) as server:
        for text in HOSTILE:
            assert server.tokenize(text) == tokenizer.encode(text), text
        assert server.infill_prompt("a", "b") == "<fim_prefix>a<fim_suffix>b<fim_middle>"


def test_without_the_types_of_its_byte_tokens_the_vocabulary_loses_text(make_checkpoint, tmp_path, monkeypatch) -> None:
    """Why `gguf_vocabulary` changes types: as sentencepiece names them, llama.cpp knows no bytes."""
    model, tokenizer = load(make_checkpoint())

    def plain(content: bytes, size: int):
        vocabulary = gguf_vocabulary(content, size)
        first = vocabulary.texts.index(b"<0x00>")
        texts, types = list(vocabulary.texts), list(vocabulary.types)
        texts[first : first + 256] = [f"<0x{byte:02X}>".encode() for byte in range(256)]
        types[first : first + 256] = [BYTE] * 256
        return type(vocabulary)(**{**vocabulary.__dict__, "texts": texts, "types": types})

    monkeypatch.setattr("codelm.export.gguf_file.gguf_vocabulary", plain)
    write_gguf(model, tokenizer, tokenizer.path, tmp_path / "x.gguf", "f16", "x")
    with llama_server(tmp_path / "x.gguf", 64) as server:
        assert server.tokenize("🙂") != tokenizer.encode("🙂")


def test_byte_tokens_keep_their_ids_and_become_what_llama_cpp_splits_at(corpus) -> None:
    tokenizer = load_tokenizer(corpus / "tokenizer")
    vocabulary = gguf_vocabulary((corpus / "tokenizer" / "spiece.model").read_bytes(), 520)
    byte = vocabulary.texts.index(b"<0x00>")
    assert vocabulary.texts[byte + 0xE2] == b"\xe2"
    assert vocabulary.types[byte + 0xE2] == USER_DEFINED
    assert (vocabulary.types[byte + 0x07], vocabulary.texts[byte + 0x07]) == (NORMAL, b"\x07")
    assert (vocabulary.types[byte], vocabulary.texts[byte]) == (BYTE, b"<0x00>")
    assert len(vocabulary.texts) == len(vocabulary.scores) == len(vocabulary.types) == 520
    assert tokenizer.vocab_size == 512


def test_a_file_that_computes_something_else_is_caught(make_checkpoint, tmp_path) -> None:
    model, tokenizer = load(make_checkpoint())
    write_gguf(model, tokenizer, tokenizer.path, tmp_path / "x.gguf", "f16", "x")
    with torch.no_grad():
        model.get_parameter("transformer.blocks.1.ffn.down_proj.weight").mul_(1.2)
    with pytest.raises(CheckpointError, match=r"does not compute what its source does: in llama\.cpp"):
        check_llama_parity(model, tokenizer, tmp_path / "x.gguf", "f16")


def test_a_file_that_encodes_text_otherwise_is_caught(make_checkpoint, tmp_path, monkeypatch) -> None:
    model, tokenizer = load(make_checkpoint())

    def spaced(content: bytes, size: int):
        vocabulary = gguf_vocabulary(content, size)
        return type(vocabulary)(**{**vocabulary.__dict__, "remove_extra_whitespaces": True})

    monkeypatch.setattr("codelm.export.gguf_file.gguf_vocabulary", spaced)
    write_gguf(model, tokenizer, tokenizer.path, tmp_path / "x.gguf", "f16", "x")
    with pytest.raises(CheckpointError, match="does not encode text as its source does"):
        check_llama_parity(model, tokenizer, tmp_path / "x.gguf", "f16")


def test_a_torn_file_is_one_sentence(make_checkpoint, tmp_path) -> None:
    model, tokenizer = load(make_checkpoint())
    file = tmp_path / "x.gguf"
    write_gguf(model, tokenizer, tokenizer.path, file, "f16", "x")
    file.write_bytes(file.read_bytes()[:20_000])
    with pytest.raises(CheckpointError, match=r"llama\.cpp cannot load x\.gguf"), llama_server(file, 64):
        pass


def test_weights_that_f16_cannot_hold_are_refused(make_checkpoint, tmp_path) -> None:
    with pytest.raises(CheckpointError, match="which f16 cannot hold"):
        export(make_checkpoint(scale=1e6), tmp_path / "out", ("gguf",))


def test_without_llama_cpp_the_export_says_that_parity_was_not_checked(make_checkpoint, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("codelm.export.gguf_folder.is_installed", lambda: False)
    exported = export(make_checkpoint(), tmp_path / "out", ("gguf",))
    assert exported.measured["gguf"] == [
        f"parity was not checked in llama.cpp, for the package xllamacpp is absent: {HOW_TO_GET_IT}"
    ]
    assert HOW_TO_GET_IT in (tmp_path / "out" / "README.md").read_text()


def test_the_modelfile_fills_gaps_only_where_that_was_trained(make_checkpoint, tmp_path) -> None:
    folder = make_checkpoint()
    export(folder, tmp_path / "plain", ("gguf",))
    assert 'TEMPLATE """{{ .Prompt }}"""' in (tmp_path / "plain" / "Modelfile").read_text()
    assert "complete code at the end of a text only" in (tmp_path / "plain" / "README.md").read_text()
    text = modelfile("x.gguf", load_tokenizer(folder), 128, True, "CC-BY-SA-4.0")
    template = "<fim_prefix>{{ .Prompt }}<fim_suffix>{{ .Suffix }}<fim_middle>"
    assert f'TEMPLATE """{{{{ if .Suffix }}}}{template}{{{{ else }}}}{{{{ .Prompt }}}}{{{{ end }}}}"""' in text
    for line in ("FROM ./x.gguf", "PARAMETER num_ctx 128", 'PARAMETER stop "<|endoftext|>"'):
        assert line in text.splitlines()


def test_another_architecture_is_sent_to_llama_cpps_own_converter(corpus, tmp_path) -> None:
    config = GPT2Config(n_embd=32, n_head=2, n_layer=1, vocab_size=512, n_positions=64)
    save_transformers(GPT2LMHeadModel(config), config, corpus / "tokenizer", tmp_path / "other")
    with pytest.raises(CheckpointError, match=r"of type gpt2 is exported to GGUF by llama\.cpp's own convert"):
        export(tmp_path / "other", tmp_path / "out", ("gguf",))
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@pytest.mark.parametrize("name", ["gguf", "transformers"])
def test_a_vocabulary_that_is_not_unigram_is_refused(make_checkpoint, tmp_path, name) -> None:
    folder = make_checkpoint()
    proto = ModelProto.FromString((folder / "spiece.model").read_bytes())
    proto.trainer_spec.model_type = proto.trainer_spec.BPE
    (folder / "spiece.model").write_bytes(proto.SerializeToString())
    for file in ("fingerprint.json", "tokenizer.json"):
        (folder / file).unlink()
    with pytest.raises(CodelmError, match=r"Unigram spiece\.model"):
        export(folder, tmp_path / "out", (name,))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(make_checkpoint, tmp_path, monkeypatch) -> None:
    folder = make_checkpoint()

    def full(self, *_, **__) -> None:
        # Part of the file is written by then.
        raise OSError(errno.ENOSPC, "No space left on device", "x.gguf")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full)
    with pytest.raises(EnvironmentFailure, match=r"the disk is full while writing x\.gguf"):
        export(folder, tmp_path / "out", ("transformers", "gguf"))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_version_that_users_are_told_of_is_the_tested_one() -> None:
    pinned = (RECIPE.parents[1] / "requirements" / "dev.txt").read_text()
    told = re.search(r"xllamacpp==[\d.]+", HOW_TO_GET_IT)
    assert told
    assert told[0] in pinned.splitlines()
