"""Low-rank adapters: added to a model, saved alone, and found again only on the weights that they were trained on.

peft makes them inside the model, which stays the class that it was, so that packing, sharding, generation and
evaluation are those of any model. A checkpoint of such a run holds `adapter_config.json` and
`adapter_model.safetensors`, as peft saves and loads them, and `adapter_base.json`, which names the weights below.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from codelm.config.peft import AdapterKeys
from codelm.errors import CheckpointError, ConfigError
from codelm.model.adapters import BASE_FILE, CONFIG_FILE, NAME, PREFIX, WEIGHTS_FILE, import_peft, weights_hash
from codelm.model.quantization import quantization_kind, quantize
from codelm.model.saving import write_tokenizer
from codelm.model.weights import write_hashes
from codelm.tokenizer import load_tokenizer

log = logging.getLogger(__name__)

_BASE_KEY = "_codelm_base"


def add_adapters(
    model: PreTrainedModel, section: AdapterKeys, base: str, seed: int, device: torch.device | str = "cpu"
) -> None:
    """Freeze a model, in few bits where the section says so, and put adapters beside its layers, in place.

    Args:
        model: with its weights, in fp32; or without values, on a rank that gets them later.
        base: where the weights come from, a folder or a hub id.
        seed: of the adapters' first weights.
        device: where weights in few bits shall be.

    Raises:
        ConfigError: the section names layers that the model does not have, or that cannot have adapters.
        EnvironmentFailure: peft or bitsandbytes is absent.
    """
    assert section.peft_config is not None
    peft = import_peft("model.peft_config")
    whole = not any(parameter.is_meta for parameter in model.parameters())
    digest = weights_hash(model) if whole else None
    kind = quantization_kind(section.load_in_8bit, section.load_in_4bit)
    if kind is not None:
        quantize(model, kind, device)
    settings = peft.LoraConfig(**section.peft_config.model_dump(exclude={"peft_type"}))
    torch.manual_seed(seed)
    try:
        peft.inject_adapter_in_model(settings, model, NAME)
    except ValueError as error:
        raise ConfigError(f"model.peft_config.target_modules: {_first_sentence(error)}") from error
    _check_layers(model)
    settings.base_model_name_or_path = str(Path(base).resolve()) if Path(base).exists() else base
    setattr(model, _BASE_KEY, {"base": settings.base_model_name_or_path, "xxh3_128": digest})
    trained = sum(parameter.numel() for parameter in adapter_parameters(model).values())
    log.info("adapters: %s parameters are trained, on %s", f"{trained:,}", base)


def has_adapters(model: nn.Module) -> bool:
    """Whether a model is trained through adapters."""
    return hasattr(model, _BASE_KEY)


def adapter_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What is trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def save_adapters(
    weights: Mapping[str, Tensor], model: PreTrainedModel, tokenizer_folder: str | Path, folder: Path
) -> None:
    """Write the adapters, what they belong to and the tokenizer into a new folder.

    Args:
        weights: those of `adapter_parameters`, whole and on the CPU.
        model: the one that they are of.

    Raises:
        OSError: the disk is full.
    """
    peft = import_peft("model.peft_config")
    own: dict[str, Tensor] = peft.get_peft_model_state_dict(
        model, state_dict=dict(weights), adapter_name=NAME, save_embedding_layers=False
    )
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"{PREFIX}{name}": tensor.contiguous() for name, tensor in own.items()}
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    (folder / WEIGHTS_FILE).chmod(0o644)
    write_hashes(folder, (WEIGHTS_FILE,))
    configs: Any = model.peft_config
    fields = {**configs[NAME].to_dict(), "inference_mode": True}
    (folder / CONFIG_FILE).write_text(json.dumps(fields, indent=2, sort_keys=True, default=sorted) + "\n")
    (folder / BASE_FILE).write_text(json.dumps(getattr(model, _BASE_KEY), indent=2) + "\n")
    write_tokenizer(load_tokenizer(tokenizer_folder), folder, model.config.to_dict())


def check_base(model: PreTrainedModel, checkpoint: Path) -> None:
    """Refuse to go on with adapters on other weights than they were trained on; a rank without weights passes.

    Raises:
        CheckpointError: naming both.
    """
    now = getattr(model, _BASE_KEY)
    try:
        before = json.loads((checkpoint / BASE_FILE).read_text(encoding="utf-8"))
        same = now["xxh3_128"] in (None, before["xxh3_128"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{checkpoint / BASE_FILE} cannot be read ({error!r}); delete {checkpoint}") from error
    if not same:
        raise CheckpointError(
            f"{checkpoint} holds adapters for the weights that {before['base']} held then, and {now['base']} holds"
            " others; restore the former, or choose another save_folder"
        )


def _check_layers(model: PreTrainedModel) -> None:
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    names = [name for name, module in model.named_modules() if any(module is end for end in ends)]
    wrapped = [name for name in names if any(part.startswith(f"{name}.lora_") for part in adapter_parameters(model))]
    if wrapped:
        raise ConfigError(
            f"model.peft_config.target_modules: {wrapped[0]} is the embedding or the output layer, which get no"
            " adapters; name layers inside the blocks, or all-linear"
        )
    strange = [name for name in adapter_parameters(model) if ".lora_" not in name]
    assert not strange, strange


def _first_sentence(error: ValueError) -> str:
    return str(error).strip().splitlines()[0].split(". ")[0]
