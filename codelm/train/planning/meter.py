"""Note what code allocates and computes, on tensors with contents or without (FakeTensorMode)."""

import weakref
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

_FORWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
_FREE = {torch.ops.aten._unsafe_view, torch.ops.aten.detach, torch.ops.aten.empty, torch.ops.aten.empty_like}
# These touch a few elements of what they are given.
_PICKS = {torch.ops.aten.gather, torch.ops.aten.embedding, torch.ops.aten.index}
_SCATTERS = {torch.ops.aten.scatter_add_}


class Operation(NamedTuple):
    """One kernel."""

    kind: str
    """`matmul`, `attention`, or `other`, which moves memory."""
    flops: float
    bytes: float
    """Read and written, if nothing stays in a cache."""


class Meter(TorchDispatchMode):
    """While it is active: the bytes of tensors alive, their peak, and the operations carried out."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.operations: Counter[Operation] = Counter()
        self._known: set[int] = set()

    def leave_out(self, tensors: Iterable[torch.Tensor]) -> None:
        """Tensors from before, which do not count."""
        self._known |= {tensor.untyped_storage()._cdata for tensor in tensors}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        made = [tensor for tensor in tree_leaves(out) if isinstance(tensor, torch.Tensor)]
        for tensor in made:
            self._note(tensor)
        if not func.is_view and func.namespace != "prim" and func._overloadpacket not in _FREE:
            self._count(func, args, kwargs, out, made)
        return out

    def _note(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size

    def _count(self, func: Any, args: Any, kwargs: Any, out: Any, made: list[torch.Tensor]) -> None:
        inputs = [tensor for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, torch.Tensor)]
        packet = func._overloadpacket
        if packet in (_FORWARD, _BACKWARD):
            # Fused kernels compute biases such as ALiBi's as they go.
            inputs = list(args[: 3 if packet is _FORWARD else 4])
        elif packet in _PICKS:
            inputs = made
        elif packet in _SCATTERS:
            inputs, made = [args[3], args[3]], [args[3]]
        moved = sum(tensor.numel() * tensor.element_size() for tensor in [*inputs, *made])
        if packet is _FORWARD:
            query, key, value = (tensor.shape for tensor in args[:3])
            self.operations[Operation("attention", sdpa_flop_count(query, key, value) / 2, moved)] += 1
        elif packet is _BACKWARD:
            grad, query, key, value = (tensor.shape for tensor in args[:4])
            # It computes the scores again, which the count knows; half of everything is hidden by causality.
            self.operations[Operation("attention", sdpa_backward_flop_count(grad, query, key, value) / 2, moved)] += 1
        elif packet in flop_registry:
            flops = flop_registry[packet](*args, **kwargs, out_val=out)
            self.operations[Operation("matmul", flops, moved)] += 1
        else:
            self.operations[Operation("other", 0, moved)] += 1
