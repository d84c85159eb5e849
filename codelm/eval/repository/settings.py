"""How a benchmark is built, and what came of building it."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from codelm.eval.repository.copy import Repository
from codelm.eval.repository.gates import GateSettings


@dataclass(frozen=True)
class BuildSettings:
    """How a benchmark is built.

    Attributes:
        repeats: the suite runs so often; a test that does not pass each time is left out.
        test_seconds: a test that takes longer is left out.
        min_lines, max_lines: of a body, without empty lines and comments.
        blocks, statements: masks of these kinds in each function.
        most_tests: that judge one mask.
        share: of the files with functions, by a hash; the others stay free for training.
        held_out: the share of each language's files that is held out for completing lines and blocks.
        most_held_out: files of a language.
        min_level: of isolation (`codelm.eval.sandbox.LEVELS`).
    """

    seed: int = 17
    repeats: int = 3
    test_seconds: float = 60.0
    min_lines: int = 2
    max_lines: int = 60
    blocks: int = 1
    statements: int = 2
    most_tests: int = 20
    share: float = 1.0
    held_out: float = 0.1
    most_held_out: int = 50
    min_level: str = "rlimits"
    gates: GateSettings = field(default_factory=GateSettings)


@dataclass
class Built:
    """What came out.

    Attributes:
        functions: candidates refused, by reason; `candidates` were not.
        gates: masks of each kind, by the gate that ended their way (`kept` did not).
        troubles: a sentence for everything that the user may want to mend.
    """

    repository: Repository
    folder: Path
    tests: dict[str, int] = field(default_factory=dict)
    functions: dict[str, int] = field(default_factory=dict)
    candidates: int = 0
    gates: dict[str, dict[str, int]] = field(default_factory=dict)
    held_out: dict[str, dict[str, int]] = field(default_factory=dict)
    runs: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    isolation: str | None = None
    troubles: list[str] = field(default_factory=list)
    addopts: str = ""
    modules: tuple[str, ...] = ()
    """What tests import that is not the repository's: a judge imports it once."""

    def summary(self) -> dict[str, Any]:
        """For benchmark.json."""
        fields = asdict(self)
        del fields["repository"], fields["folder"]
        return {
            **fields,
            "origin": self.repository.origin,
            "dirty": self.repository.dirty,
            "import_roots": self.repository.import_roots(),
            "top_level_names": sorted(self.repository.top_level_names()),
        }
