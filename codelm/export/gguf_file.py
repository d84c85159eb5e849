"""Write a model as a GGUF file of llama.cpp's `mpt` architecture."""

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from codelm.errors import CheckpointError, EnvironmentFailure
from codelm.export.gguf_vocabulary import gguf_vocabulary
from codelm.model.configuration import ReplitCodeConfig
from codelm.model.lineage import Ancestor
from codelm.tokenizer import MODEL_FILE, CodeTokenizer

GGUF_TYPES = ("f16", "q8_0")
"""Types of the weight matrices; norms, biases and learned positions stay in fp32."""

_FIM = {
    "fim_prefix": "FIM_PRE_ID",
    "fim_suffix": "FIM_SUF_ID",
    "fim_middle": "FIM_MID_ID",
    "fim_pad": "FIM_PAD_ID",
    "repo_name": "FIM_REP_ID",
    "file_sep": "FIM_SEP_ID",
}


def gguf_obstacle(config: PretrainedConfig, tokenizer: object) -> str | None:
    """Why llama.cpp would not compute this model, as a sentence; None when it would."""
    if not isinstance(config, ReplitCodeConfig) or not isinstance(tokenizer, CodeTokenizer):
        return (
            f"a model of type {config.model_type} is exported to GGUF by llama.cpp's own convert_hf_to_gguf.py; this "
            "export writes models of the replit-code architecture with a spiece.model"
        )
    attention = config.attn_config
    scale, usual = attention.get("softmax_scale"), 1 / math.sqrt(config.d_model // config.n_heads)
    window = attention.get("sliding_window_size", -1)
    settings = {
        f"logit_scale {config.logit_scale}": config.logit_scale not in (None, 1, 1.0),
        f"attn_config.softmax_scale {scale}": scale is not None and not math.isclose(scale, usual, rel_tol=1e-6),
        f"norm_type {config.norm_type}": "rmsnorm" in config.norm_type,
        f"attn_config.sliding_window_size {window}": window != -1,
        # Its graph has the norms, and breaks off on a tensor that is not contiguous.
        "attn_config.qk_ln true": bool(attention.get("qk_ln")),
    }
    wrong = [name for name, present in settings.items() if present]
    if not wrong:
        return None
    return f"the model has {' and '.join(wrong)}, which llama.cpp does not compute for MPT, so it cannot leave as GGUF"


def write_gguf(
    model: PreTrainedModel,
    tokenizer: CodeTokenizer,
    tokenizer_folder: Path,
    file: Path,
    gguf_type: str,
    name: str,
    lineage: Sequence[Ancestor] = (),
    licence: str | None = None,
) -> None:
    """Write the file, and leave the model's weights rounded as they were written.

    Args:
        model: a `ReplitCodeForCausalLM` in fp32 on the CPU, of which `gguf_obstacle` says nothing.
        tokenizer_folder: holds its `spiece.model`.
        gguf_type: one of `GGUF_TYPES`; a matrix whose rows are no multiple of 32 stays in f16.

    Raises:
        CheckpointError: a weight does not fit into the type.
        EnvironmentFailure: the package gguf is absent.
        OSError: the disk is full.
    """
    gguf = _gguf()
    config: Any = model.config
    writer = gguf.GGUFWriter(file, "mpt")
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if gguf_type == "f16" else gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _describe(writer, lineage, licence)
    _add_architecture(writer, config)
    _add_vocabulary(writer, gguf, tokenizer, (tokenizer_folder / MODEL_FILE).read_bytes(), config.vocab_size)
    with torch.no_grad():
        for tensor_name, tensor in _tensors(model, gguf, config.n_layers):
            data, kind = _rounded(tensor, gguf, gguf_type, tensor_name)
            writer.add_tensor(tensor_name, data, raw_dtype=kind)
            tensor.copy_(torch.from_numpy(gguf.quants.dequantize(data, kind)).view_as(tensor))
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _gguf() -> Any:
    try:
        import gguf
    except ImportError:
        raise EnvironmentFailure("writing GGUF needs the package gguf: pip install gguf") from None
    logging.getLogger("gguf").setLevel(logging.ERROR)
    return gguf


def _describe(writer: Any, lineage: Sequence[Ancestor], licence: str | None) -> None:
    writer.add_tags(["code", "text-generation"])
    if licence:
        writer.add_license(licence.lower())
    bases = [ancestor for ancestor in lineage if ancestor.part == "weights"]
    if bases:
        writer.add_base_model_count(len(bases))
    for index, base in enumerate(bases):
        writer.add_base_model_name(index, base.name)
        if base.licence is not None and "/" in base.name:
            writer.add_base_model_repo_url(index, f"https://huggingface.co/{base.name}")


def _add_architecture(writer: Any, config: ReplitCodeConfig) -> None:
    attention = config.attn_config
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_seq_len)
    writer.add_embedding_length(config.d_model)
    writer.add_block_count(config.n_layers)
    writer.add_feed_forward_length(int(config.expansion_ratio * config.d_model))
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(getattr(config, "kv_n_heads", config.n_heads))
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_max_alibi_bias(float(attention["alibi_bias_max"]) if attention["alibi"] else 0.0)
    if attention["clip_qkv"]:
        writer.add_clamp_kqv(float(attention["clip_qkv"]))


def _add_vocabulary(writer: Any, gguf: Any, tokenizer: CodeTokenizer, model: bytes, size: int) -> None:
    vocabulary = gguf_vocabulary(model, size)
    writer.add_tokenizer_model("t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(vocabulary.texts)
    writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.types)
    writer.add_add_space_prefix(vocabulary.add_space_prefix)
    writer.add_remove_extra_whitespaces(vocabulary.remove_extra_whitespaces)
    if vocabulary.charsmap:
        writer.add_precompiled_charsmap(vocabulary.charsmap)
    # Documents in training begin with their first token and end with EOS; a prompt has neither.
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_eos_token_id(tokenizer.eos_id)
    writer.add_pad_token_id(tokenizer.pad_id)
    if tokenizer.unk_id is not None:
        writer.add_unk_token_id(tokenizer.unk_id)
    for piece, key in _FIM.items():
        if piece in tokenizer.special_ids:
            writer.add_uint32(getattr(gguf.Keys.Tokenizer, key), tokenizer.special_ids[piece])


def _tensors(model: PreTrainedModel, gguf: Any, layers: int) -> Iterator[tuple[str, Tensor]]:
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MPT, layers)
    for name, tensor in model.named_parameters():
        # The output layer is the embedding, which named_parameters gives once, by its first name.
        given = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if given is None:
            raise CheckpointError(f"llama.cpp's MPT has no place for the weight {name}, so it cannot leave as GGUF")
        yield given, tensor


def _rounded(tensor: Tensor, gguf: Any, gguf_type: str, name: str) -> tuple[Any, Any]:
    kinds = gguf.GGMLQuantizationType
    matrix = tensor.dim() == 2 and not name.startswith("position_embd")
    kind = kinds.F32 if not matrix else kinds.F16 if gguf_type == "f16" or tensor.shape[-1] % 32 else kinds.Q8_0
    if kind != kinds.F32 and float(tensor.abs().max()) > torch.finfo(torch.float16).max:
        raise CheckpointError(f"the weights {name} reach {float(tensor.abs().max()):.3g}, which f16 cannot hold")
    return gguf.quants.quantize(tensor.float().numpy(), kind), kind
