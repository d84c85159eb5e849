"""A small tokenizer of real code and the smallest models of the architecture."""

import copy
import json
import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
from codelm.tokenizer_training import train_tokenizer

VOCAB = 600


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `spiece.model` of 600 tokens, trained on the standard library."""
    folder = tmp_path_factory.mktemp("tokenizer")
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:20]
    train_tokenizer([file.read_bytes().decode() for file in files], VOCAB, folder)
    return folder


@pytest.fixture
def make_model() -> Callable[..., ReplitCodeForCausalLM]:
    """`make_model(n_heads=6, …)`: a model in evaluation mode, drawn from seed 0."""

    def make(**changes: Any) -> ReplitCodeForCausalLM:
        torch.manual_seed(0)
        shape = {"d_model": 48, "n_heads": 4, "n_layers": 2, "vocab_size": VOCAB, "max_seq_len": 64, **changes}
        return ReplitCodeForCausalLM(ReplitCodeConfig(**shape)).eval()

    return make


@pytest.fixture
def ids() -> torch.Tensor:
    """Token ids `(2, 40)`."""
    return torch.randint(3, VOCAB, (2, 40), generator=torch.Generator().manual_seed(1))


_FP4 = (0.0, 0.0625 / 12, 8 / 12, 1.0, 4 / 12, 6 / 12, 2 / 12, 3 / 12)
FOUR_BITS = {
    "fp4": (*_FP4, *(-number for number in _FP4)),
    # Of the paper QLoRA, appendix E.
    "nf4": (
        *(-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0),
        *(0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0),
    ),
}
"""The numbers that 4 bits can be, of a block's largest."""


@pytest.fixture
def rounded_to_4_bits() -> Callable[..., Any]:
    """`rounded_to_4_bits(model, "nf4")`: a copy whose linear layers have the weights that 4 bits leave of them.

    Plainly: 64 weights in a row are divided by the largest, and each becomes the nearest of 16 numbers.
    """

    def rounded(model: torch.nn.Module, kind: str) -> torch.nn.Module:
        numbers, copied = torch.tensor(FOUR_BITS[kind]), copy.deepcopy(model)
        for name, layer in copied.named_modules():
            if isinstance(layer, torch.nn.Linear) and name != "lm_head":
                blocks = layer.weight.detach().reshape(-1, 64)
                largest = blocks.abs().amax(1, keepdim=True)
                nearest = ((blocks / largest)[..., None] - numbers).abs().argmin(-1)
                layer.weight.data = (numbers[nearest] * largest).reshape(layer.weight.shape)
        return copied

    return rounded


@pytest.fixture
def published_folder(make_model, tokenizer_folder, tmp_path) -> Path:
    """A small model in the layout that replit-code-v1-3b was published in.

    Its Python files leave a file `ran` in the folder when they are executed.
    """
    folder = tmp_path / "replit-code-v1-3b"
    folder.mkdir()
    shape = {"d_model": 64, "n_heads": 2, "n_layers": 2, "vocab_size": VOCAB, "max_seq_len": 64}
    for name, fields in PUBLISHED.items():
        (folder / name).write_text(json.dumps(fields | (shape if name == "config.json" else {}), indent=2))
    torch.save(
        {name: tensor for name, tensor in make_model(**shape).state_dict().items() if name != "lm_head.weight"},
        folder / "pytorch_model.bin",
    )
    shutil.copy(tokenizer_folder / "spiece.model", folder)
    for name in ("configuration_mpt", "modeling_mpt", "replit_lm_tokenizer"):
        trap = f"from pathlib import Path\n\nPath({str(folder / 'ran')!r}).write_text(__name__)\n"
        (folder / f"{name}.py").write_text(trap)
    return folder


PUBLISHED: dict[str, dict[str, Any]] = {
    "config.json": {
        "architectures": ["MPTForCausalLM"],
        "attn_config": {
            "alibi": True,
            "alibi_bias_max": 8,
            "attn_impl": "torch",
            "attn_pdrop": 0,
            "attn_type": "multihead_attention",
            "attn_uses_sequence_id": False,
            "clip_qkv": None,
            "prefix_lm": False,
            "qk_ln": False,
            "softmax_scale": None,
        },
        "auto_map": {
            "AutoConfig": "configuration_mpt.MPTConfig",
            "AutoModelForCausalLM": "modeling_mpt.MPTForCausalLM",
        },
        "d_model": 2560,
        "emb_pdrop": 0,
        "embedding_fraction": 1.0,
        "expansion_ratio": 4,
        "init_config": {
            "emb_init_std": None,
            "emb_init_uniform_lim": None,
            "fan_mode": "fan_in",
            "init_div_is_residual": True,
            "init_gain": 0,
            "init_nonlinearity": "relu",
            "init_std": 0.02,
            "name": "kaiming_normal_",
            "verbose": 0,
        },
        "init_device": "cpu",
        "learned_pos_emb": True,
        "logit_scale": None,
        "max_seq_len": 2048,
        "model_type": "mpt",
        "n_heads": 32,
        "n_layers": 32,
        "no_bias": True,
        "norm_type": "low_precision_layernorm",
        "resid_pdrop": 0,
        "tokenizer_name": "replit/replit-code-v1-3b",
        "torch_dtype": "float32",
        "transformers_version": "4.28.1",
        "use_cache": True,
        "verbose": 0,
        "vocab_size": 32768,
        "eos_token_id": 1,
    },
    "generation_config.json": {
        "_from_model_config": True,
        "transformers_version": "4.28.1",
        "use_cache": False,
        "eos_token_id": 1,
    },
    "special_tokens_map.json": {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>", "unk_token": "<|unk|>"},
    "tokenizer_config.json": {
        "auto_map": {"AutoTokenizer": ["replit_lm_tokenizer.ReplitLMTokenizer", None]},
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>",
        "model_max_length": 2048,
        "pad_token": "<|pad|>",
        "padding_side": "right",
        "sep_token": None,
        "sp_model_kwargs": {},
        "tokenizer_class": "ReplitLMTokenizer",
        "unk_token": "<|unk|>",
    },
}
"""The JSON files of the published folder, but for the shape."""
