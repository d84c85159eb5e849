"""What confines and bounds the programs that are judged."""

from typing import Annotated, Literal

from pydantic import Field

from codelm.config.fields import PositiveInt, Section


class SandboxSection(Section):
    """Bounds of one judged program."""

    wall_seconds: Annotated[float, Field(gt=0)] = 10.0
    cpu_seconds: Annotated[float, Field(gt=0)] = 5.0
    memory_bytes: PositiveInt = 1 << 30
    output_bytes: PositiveInt = 1 << 20
    min_level: Literal["none", "rlimits", "landlock"] = "rlimits"
    """Refuse to judge on a machine that isolates less than this."""
    num_workers: PositiveInt | None = None
    """Programs judged at once; null means one a core."""
