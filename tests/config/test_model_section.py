"""The `model:` section: sizes by name, MPT's fields, and settings that contradict each other."""

import pytest

from codelm.config import load_config, resolved_yaml
from codelm.config.sizes import SIZES

SHAPE = ("d_model", "n_heads", "n_layers")


@pytest.fixture
def sized(write):
    """`sized(model)` writes a training YAML with that `model:` section and returns its name."""
    rest = """
run_name: sized
max_seq_len: 512
tokenizer: {path: data/tokenizer}
train_data: {path: data}
optimizer: {name: lionw, lr: 1e-4}
max_duration: 1ba
global_train_batch_size: 1
device_train_microbatch_size: 1
save_folder: runs/sized
save_interval: 1ba
"""
    return lambda model: write("sized.yaml", f"model: {{name: replit_code{model}}}\n{rest}")


@pytest.mark.parametrize("size", SIZES)
def test_a_size_gives_the_shape(sized, size):
    model = load_config("train", sized(f", size: {size}")).model
    assert {key: getattr(model, key) for key in SHAPE} == SIZES[size]


def test_without_a_size_the_shape_is_replit_code_v1_3b(sized):
    model = load_config("train", sized("")).model
    assert (
        {key: getattr(model, key) for key in SHAPE} == SIZES["3b"] == {"d_model": 2560, "n_heads": 32, "n_layers": 32}
    )


def test_given_fields_win_over_the_size(sized):
    model = load_config("train", sized(", size: 125m, n_layers: 6"), ["model.d_model=384"]).model
    assert [getattr(model, key) for key in SHAPE] == [384, 12, 6]


def test_a_printed_size_loads_again_to_the_same(sized, write):
    config = load_config("train", sized(", size: 125m, n_layers: 6"))
    assert load_config("train", write("printed.yaml", resolved_yaml(config))) == config


def test_a_size_can_be_given_on_the_command_line(sized):
    path = sized(", size: 125m, n_layers: 6")
    assert load_config("train", path, ["model.size=350m"]).model.d_model == SIZES["350m"]["d_model"]


REFUSED = [
    ("size: 200m", "model.size: `200m` is none of 125m, 350m, 1b, 3b"),
    (
        "size: 125m, d_model: 64, n_heads: 4, n_layers: 2",
        "model: size has no effect where d_model, n_heads, n_layers are all given; delete it or them",
    ),
    ("d_model: 100, n_heads: 3", "model: d_model 100 is not divisible by n_heads 3"),
    (
        "attn_config: {kv_n_heads: 2}",
        "model.attn_config: kv_n_heads 2 is for attn_type grouped_query_attention, not multihead_attention",
    ),
    (
        "attn_config: {attn_type: grouped_query_attention}",
        "model.attn_config: attn_type grouped_query_attention needs kv_n_heads, the heads of keys and values",
    ),
    (
        "size: 125m, attn_config: {attn_type: grouped_query_attention, kv_n_heads: 5}",
        "model: n_heads 12 is not divisible by attn_config.kv_n_heads 5",
    ),
    (
        "attn_config: {alibi_form: legacy, attn_impl: triton}",
        "model.attn_config: alibi_form legacy needs attn_impl torch, not triton",
    ),
    (
        "attn_config: {alibi_form: legacy, alibi: false}",
        "model.attn_config: alibi_form legacy says how ALiBi is rounded, and alibi is false",
    ),
    (
        "attn_config: {attn_impl: triton, attn_pdrop: 0.1}",
        "model.attn_config: attn_pdrop 0.1 needs attn_impl torch or flash; triton has no dropout",
    ),
    (
        "attn_config: {sliding_window_size: 0}",
        "model.attn_config: sliding_window_size 0 is no number of tokens above 0; write -1 for no window",
    ),
    (
        "learned_pos_emb: false, attn_config: {alibi: false}",
        "model: without attn_config.alibi and learned_pos_emb the model knows no positions; set one true",
    ),
    ("logit_scale: half", "model.logit_scale: should be a number above 0, the text inv_sqrt_d_model, or null"),
    ("logit_scale: -1.0", "model.logit_scale: should be a number above 0, the text inv_sqrt_d_model, or null"),
    (
        "attn_config: {attn_impl: flash_attention_2}",
        "model.attn_config.attn_impl: `flash_attention_2` is none of torch, triton, flash; did you mean `flash`?",
    ),
]


@pytest.mark.parametrize(("model", "sentence"), REFUSED, ids=[model for model, _ in REFUSED])
def test_contradictions_are_refused_with_a_sentence(sized, problems, model, sentence):
    (line,) = problems("train", sized(f", {model}"))
    assert line.split(": ", 1)[1] == sentence


ACCEPTED = [
    "attn_config: {attn_type: grouped_query_attention, kv_n_heads: 8, sliding_window_size: 64}",
    "attn_config: {attn_type: multiquery_attention, qk_ln: true, clip_qkv: 6}",
    "attn_config: {alibi: false, attn_uses_sequence_id: true}",
    "attn_config: {alibi_form: legacy}, logit_scale: inv_sqrt_d_model, no_bias: false",
    "attn_config: {attn_impl: flash, attn_pdrop: 0.1}, logit_scale: 0.5, norm_type: rmsnorm, embedding_fraction: 0.1",
]


@pytest.mark.parametrize("model", ACCEPTED)
def test_mpts_fields_are_accepted(sized, model):
    load_config("train", sized(f", {model}"))
