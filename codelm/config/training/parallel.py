"""How a run is spread over devices, and how each of them computes."""

from typing import Literal

from codelm.config.fields import Section


class FSDPSection(Section):
    """Fully sharded data parallelism; without this section several ranks train with DDP."""

    version: Literal[2] = 2
    reshard_after_forward: bool = True
    """false keeps the gathered weights until the backward pass: more memory, less communication."""
    state_dict_type: Literal["sharded", "full"] = "sharded"


class CompileSection(Section):
    """torch.compile; needs a C++ compiler on CPU, and costs up to a few minutes at the start."""

    mode: Literal["block"] = "block"
    """block: each decoder block on its own, so that one small graph serves them all."""
