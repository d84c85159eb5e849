"""The model of a run with its first weights: ours, or any causal language model of transformers."""

import importlib.util
from typing import Any

import torch
from composer.utils import dist
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from codelm.config.model import HfCausalLMSection, ReplitCodeSection
from codelm.config.peft import AdapterKeys
from codelm.config.train import TrainConfig
from codelm.errors import CheckpointError, ConfigError, EnvironmentFailure, TokenizerError
from codelm.model import ReplitCodeConfig
from codelm.model.pretrained import load
from codelm.tokenizer import Tokenizer
from codelm.train import composer_args
from codelm.train.adapters import add_adapters
from codelm.train.packed import FLASH
from codelm.train.parallel.initial import fresh_model

_ATTENTION = {"flash": FLASH}


def build_model(config: TrainConfig, tokenizer: Tokenizer) -> PreTrainedModel:
    """The model with its first weights: fresh ones from the seed, a pretrained model's, or those of load_path."""
    torch.manual_seed(config.seed)
    section = config.model
    if isinstance(section, ReplitCodeSection):
        model = fresh_model(replit_code_config(section, config.max_seq_len, tokenizer), config.seed)
    else:
        model = _transformers_model(section)
        longest = getattr(model.config, "max_position_embeddings", None)
        if longest is not None and longest < config.max_seq_len:
            raise ConfigError(
                f"max_seq_len is {config.max_seq_len}, and {section.pretrained_model_name_or_path} takes at most"
                f" {longest} tokens; prepare the data with max_seq_len {longest} or less"
            )
        if model.config.vocab_size < tokenizer.vocab_size:
            raise ConfigError(
                f"{section.pretrained_model_name_or_path} has {model.config.vocab_size} embeddings, and the tokenizer"
                f" {config.tokenizer.path} has {tokenizer.vocab_size} tokens; use the model's own tokenizer"
            )
    if config.load_path is not None:
        take_weights(model, config.load_path, tokenizer)
    model.float()
    if section.peft_config is not None:
        base = config.load_path or getattr(section, "pretrained_model_name_or_path", None)
        add_adapters(model, section, str(base), config.seed, _device(config))
    return model


def _device(config: TrainConfig) -> torch.device:
    """Where this rank trains."""
    gpu = composer_args.device(config) == "gpu"
    return torch.device("cuda", dist.get_local_rank()) if gpu else torch.device("cpu")


def replit_code_config(section: ReplitCodeSection, max_seq_len: int, tokenizer: Tokenizer) -> ReplitCodeConfig:
    """The section's architecture with the tokenizer's vocabulary and special tokens.

    Raises:
        ConfigError: `model.vocab_size` is smaller than the tokenizer's.
    """
    vocab_size = section.vocab_size or tokenizer.vocab_size
    if vocab_size < tokenizer.vocab_size:
        raise ConfigError(
            f"model.vocab_size {vocab_size} is less than the tokenizer's {tokenizer.vocab_size};"
            " leave it out to take the tokenizer's"
        )
    fields = section.model_dump(exclude={"name", "size", "vocab_size", *AdapterKeys.model_fields})
    return ReplitCodeConfig(
        **fields,
        vocab_size=vocab_size,
        max_seq_len=max_seq_len,
        eos_token_id=tokenizer.eos_id,
        pad_token_id=tokenizer.pad_id,
    )


def take_weights(model: PreTrainedModel, path: str, tokenizer: Tokenizer) -> None:
    """Give a model the weights of a checkpoint of the same architecture, ours or a transformers folder.

    Raises:
        CheckpointError: absent, or tensors are missing, left over or of other shapes.
        TokenizerError: it was trained with another tokenizer.
    """
    source, theirs_tokenizer = load(path, dtype=torch.float32)
    was, now = theirs_tokenizer.fingerprint(), tokenizer.fingerprint()
    if not was.matches(now):
        raise TokenizerError(
            f"load_path {path} was trained with another tokenizer: {was.difference(now)}; prepare the data with the"
            " tokenizer of that checkpoint"
        )
    theirs = {name: tuple(tensor.shape) for name, tensor in source.state_dict().items()}
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if theirs != ours:
        name = min(name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name))
        raise CheckpointError(
            f"load_path {path} is of another architecture: {name} is {theirs.get(name, 'absent')} there and"
            f" {ours.get(name, 'absent')} in this run's model; make the model section agree with the checkpoint"
        )
    model.load_state_dict(source.state_dict())


def check_flash() -> None:
    """Refuse flash-attn where it cannot run.

    Raises:
        EnvironmentFailure: the package or a GPU is absent.
    """
    if importlib.util.find_spec("flash_attn") is None:
        raise EnvironmentFailure(
            "model.attn_impl flash needs the package flash-attn, which is not installed; set model.attn_impl=sdpa"
        )
    if not torch.cuda.is_available():
        raise EnvironmentFailure("model.attn_impl flash needs a GPU, and torch sees none; set model.attn_impl=sdpa")


def _transformers_model(section: HfCausalLMSection) -> PreTrainedModel:
    name = section.pretrained_model_name_or_path
    options: dict[str, Any] = {"attn_implementation": _ATTENTION.get(section.attn_impl, section.attn_impl)}
    if section.attn_impl == "flash":
        check_flash()
    try:
        if not section.pretrained:
            architecture = AutoConfig.from_pretrained(name, trust_remote_code=False)
            return AutoModelForCausalLM.from_config(architecture, **options)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name, trust_remote_code=False, output_loading_info=True, **options
        )
    except Exception as error:  # transformers raises whatever the damage leads to
        first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if "does not support an attention implementation" in first_line:
            raise ConfigError(
                f"model.attn_impl {section.attn_impl}: {name} is of a family that computes attention only in the plain"
                " way; set model.attn_impl=eager"
            ) from error
        raise ConfigError(f"model.pretrained_model_name_or_path {name} cannot be loaded: {first_line}") from error
    model, report = loaded
    missing = sorted(map(str, report["missing_keys"]))
    if missing:
        # transformers would train them from random numbers, with no more than a warning.
        raise CheckpointError(
            f"model.pretrained_model_name_or_path {name} lacks {len(missing)} weights of its architecture"
            f" ({', '.join(missing[:3])}); copy it again, or set model.pretrained=false to train from scratch"
        )
    return model
