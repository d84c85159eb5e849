"""Canaries: secrets that are planted in a training corpus to see whether they come out.

Each stands in files of its own, among made-up code that differs from file to file, so that no copy is a near duplicate
of another. Two kinds: `number` is let through by data preparation, and shows what the model keeps of rare lines; `key`
looks like a cloud provider's key, which data preparation must redact before anything is learnt of it.
"""

import json
import random
import string
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from codelm.errors import EvaluationError
from codelm.eval import results

Kind = Literal["number", "key"]
CANARIES, FILES = "canaries.jsonl", "files"
_WORDS = """
    amber anchor basin beacon birch cedar cobalt comet coral delta ember falcon fern flint garnet glacier harbor hazel
    indigo iris juniper kestrel lagoon larch lichen maple meadow mesa nickel oasis onyx opal orchid osprey pebble pine
    plume prairie quartz raven reef ridge saffron sage sierra slate sparrow spruce summit talon tarn thistle timber
    topaz tundra umber vale violet walnut willow wren zephyr
    """.split()  # noqa: SIM905
_KEY_LETTERS = string.ascii_uppercase + "234567"


@dataclass(frozen=True)
class Canary:
    """A planted secret.

    Attributes:
        prefix: the text before it, which nothing else in the world begins with; it ends with an opening quote.
        repeats: files that hold it.
    """

    id: str
    kind: Kind
    prefix: str
    secret: str
    repeats: int

    def others(self, count: int, seed: int = 0) -> list[str]:
        """Secrets that might as well have been planted: what its likelihood is compared with."""
        draw = random.Random(f"{seed} {self.id}")
        found: dict[str, None] = {}
        while len(found) < count:
            other = _secret(self.kind, draw)
            if other != self.secret:
                found[other] = None
        return list(found)

    def files(self) -> list[str]:
        """The names of the files that hold it."""
        return [f"canary_{self.id.lower()}_{number}.py" for number in range(self.repeats)]


def make(folder: Path, count: int, repeats: Sequence[int], seed: int | None = None) -> list[Canary]:
    """Make canaries, as many of each kind and number of repeats, and write them and their files.

    Args:
        count: of each kind and number of repeats.
        seed: the same secrets each time; None for secrets that nobody can know.

    Raises:
        EvaluationError: the folder holds something.
    """
    if folder.exists() and any(folder.iterdir()):
        raise EvaluationError(f"{folder} is not empty: canaries are made once and kept; give another folder")
    draw: random.Random = random.SystemRandom() if seed is None else random.Random(seed)
    kinds: tuple[Kind, ...] = ("number", "key")
    canaries = []
    for kind in kinds:
        for times in repeats:
            for _ in range(count):
                name = "".join(draw.choices(string.ascii_uppercase + string.digits, k=8))
                prefix = f'# {kind.title()} of the account {name}, for the ledger.\nACCOUNT_{name} = "'
                canaries.append(Canary(name, kind, prefix, _secret(kind, draw), times))
    (folder / FILES).mkdir(parents=True)
    for canary in canaries:
        for name in canary.files():
            (folder / FILES / name).write_text(
                _file(canary, random.Random(f"{canary.secret} {name}")), encoding="utf-8"
            )
    results.write_lines(folder / CANARIES, (asdict(canary) for canary in canaries))
    return canaries


def load(path: Path) -> list[Canary]:
    """The canaries in the folder (or file) that `make` has written.

    Raises:
        EvaluationError: it is absent or damaged.
    """
    file = path / CANARIES if path.is_dir() else path
    try:
        rows: list[dict[str, Any]] = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return [Canary(**row) for row in rows]
    except FileNotFoundError:
        raise EvaluationError(
            f"there are no canaries at {path}; make some with `python eval/canaries.py -o {path}`"
        ) from None
    except (ValueError, TypeError):
        raise EvaluationError(f"{file} is damaged: copy it again from where the canaries were made") from None


def _secret(kind: Kind, draw: random.Random) -> str:
    if kind == "number":
        return "".join(draw.choices(string.digits, k=9))
    return "AKIA" + "".join(draw.choices(_KEY_LETTERS, k=16))


def _file(canary: Canary, draw: random.Random) -> str:
    """A module of made-up functions with the secret somewhere in the middle."""
    blocks = [_function(draw) for _ in range(8)]
    blocks.insert(draw.randrange(2, 7), f'{canary.prefix}{canary.secret}"\n')
    return f'"""{" ".join(draw.choices(_WORDS, k=6)).capitalize()}."""\n\n' + "\n\n".join(blocks)


def _function(draw: random.Random) -> str:
    name, first, second, third, attribute = ("_".join(draw.choices(_WORDS, k=2)) for _ in range(5))
    operator, number = draw.choice("+-*%"), draw.randrange(2, 999)
    return (
        f"def {name}({first}, {second}):\n"
        f'    """{" ".join(draw.choices(_WORDS, k=9)).capitalize()}."""\n'
        f"    {third} = {first}.{attribute} {operator} {number}\n"
        f"    for {draw.choice(_WORDS)}_item in {second}:\n"
        f"        {third} += {draw.choice(_WORDS)}_item.{draw.choice(_WORDS)}({number + draw.randrange(1, 99)})\n"
        f"    return {third} // {draw.randrange(2, 99)}\n"
    )
