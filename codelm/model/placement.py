"""Where a loaded model's layers go: one device, or several by accelerate."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from codelm.errors import ConfigError, EnvironmentFailure

DeviceMap = str | torch.device | Mapping[str, str | int | torch.device] | None
"""A device; `auto` to fill the GPUs, then memory; or the device of each part, by the names of its modules."""


def single_device(device_map: DeviceMap) -> torch.device | None:
    """The one device that a device map names, the CPU for None; None when it spreads the model.

    Raises:
        ConfigError: it names no device.
    """
    if device_map is None:
        return torch.device("cpu")
    if isinstance(device_map, Mapping):
        devices = {_device(device, f"device_map[{name!r}]") for name, device in device_map.items()}
        return devices.pop() if len(devices) == 1 and "" in device_map else None
    if str(device_map) != "auto":
        return _device(device_map, "device_map")
    accelerators = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return torch.device("cpu") if not accelerators else None


def spread(model: PreTrainedModel, device_map: DeviceMap) -> PreTrainedModel:
    """Spread a model's modules over devices; hooks carry what flows between them.

    Args:
        device_map: `auto`, or a mapping.

    Raises:
        EnvironmentFailure: accelerate is absent.
        ConfigError: the mapping does not place every weight.
    """
    accelerate = _accelerate()
    if isinstance(device_map, Mapping):
        devices: dict[str, Any] = {name: _device(device, "device_map") for name, device in device_map.items()}
        parts = [name for name, _ in model.named_modules()]
        unknown = [name for name in devices if name not in parts]
        if unknown:
            raise ConfigError(f"device_map names {unknown[0]!r}, which is no part of {type(model).__name__}")
    else:
        whole = getattr(model, "_no_split_modules", None) or []
        memory = accelerate.utils.get_balanced_memory(model, no_split_module_classes=list(whole))
        devices = accelerate.infer_auto_device_map(model, max_memory=memory, no_split_module_classes=list(whole))
        if "disk" in devices.values():
            raise ConfigError(
                "device_map auto finds no room for the whole model on GPUs and in memory; load it in 8 or 4 bits"
            )
    try:
        return accelerate.dispatch_model(model, device_map=devices)
    except ValueError as error:
        raise ConfigError(f"device_map cannot be followed: {str(error).strip().splitlines()[0]}") from error


def _device(device: Any, key: str) -> torch.device:
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"{key} is {device!r}; use auto, a device such as cpu or cuda:0, or a mapping") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"{key} is {device!r}, but there is no CUDA device here")
    return found


def _accelerate() -> Any:
    try:
        import accelerate
    except ImportError as error:
        raise EnvironmentFailure(
            "spreading a model over devices needs the package accelerate: pip install --no-deps accelerate==1.15.0"
        ) from error
    return accelerate
