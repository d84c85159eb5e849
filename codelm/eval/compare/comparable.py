"""What must be the same for two evaluations to be compared, and what merely differs."""

from collections.abc import Collection, Iterator
from typing import Any

from codelm.errors import EvaluationError
from codelm.eval.compare.folders import Evaluated, System

_THEIR_OWN = frozenset({"checkpoint", "weights_sha256", "samples", "samples_sha256", "postprocess", "path"})
"""What is the systems' own, or compared otherwise."""
_MERELY = frozenset({
    "dtype", "device", "versions", "sandbox", "limits", "batch_size", "seed", "tokenizer", "workers", "num_workers",
    "python", "folder", "gold", "pytest", "repository_python",
})  # fmt: skip
"""What may differ: it is said, and refuses nothing."""


def check_comparable(systems: list[System], allowed: Collection[str] = ()) -> list[str]:
    """Compare how the benchmarks that all systems have were run.

    Args:
        allowed: settings that may differ, by the user's wish.

    Returns:
        A sentence for each thing that differs and does not matter, or is allowed to.

    Raises:
        EvaluationError: they have no benchmark in common, or one was run otherwise.
    """
    first, notes = systems[0], []
    shared = shared_benchmarks(systems)
    if not shared:
        each = "; ".join(f"{system.name}: {', '.join(sorted(system.benchmarks)) or 'none'}" for system in systems)
        raise EvaluationError(f"there is no benchmark that all were evaluated on ({each})")
    for system in systems:
        check_weights(system)
        alone = [name for name in system.benchmarks if name not in shared]
        if alone:
            notes.append(f"{', '.join(alone)}: not all systems were evaluated on it, so it is left out")
    for name in shared:
        for other in systems[1:]:
            pair = (first.benchmarks[name], other.benchmarks[name])
            notes += _check(name, first.name, other.name, *pair, allowed=allowed)
    return list(dict.fromkeys(notes))


def check_weights(system: System, dtype: str | None = None, weights: str | None = None) -> None:
    """Whether all that is known of a system is of the same weights; a model of another type cannot be told.

    Args:
        dtype, weights: of a model that is at hand, with its hash.

    Raises:
        EvaluationError: a checkpoint such as `latest` has moved on in between.
    """
    seen = {} if dtype is None else {dtype: ("the checkpoint", weights)}
    for name, one in system.benchmarks.items():
        found = one.settings.get("weights_sha256")
        other, known = seen.setdefault(str(one.settings.get("dtype")), (name, found))
        if found is not None and known is not None and found != known:
            raise EvaluationError(
                f"{system.name}: {other} and {name} are of different weights; evaluate again, with a checkpoint that"
                " stays as it is instead of `latest`"
            )


def shared_benchmarks(systems: list[System]) -> list[str]:
    """The benchmarks that all have, in the first one's order."""
    return [name for name in systems[0].benchmarks if all(name in system.benchmarks for system in systems)]


def _check(
    name: str, first: str, second: str, one: Evaluated, other: Evaluated, allowed: Collection[str]
) -> Iterator[str]:
    if one.profile != other.profile:
        raise EvaluationError(
            f"{name}: {first} was scored with the post-processing profile {one.profile}, {second} with {other.profile};"
            f" score both with one (tasks.{name}.postprocess, nothing is generated) or choose one with --profile"
        )
    for key in sorted(one.settings.keys() | other.settings.keys()):
        old, new = one.settings.get(key), other.settings.get(key)
        if key in _THEIR_OWN or old == new:
            continue
        if key in _MERELY or key in allowed:
            yield f"{name}: {key} differs: {first} {_said(old, new)}, {second} {_said(new, old)}"
        elif key.endswith("sha256"):
            raise EvaluationError(
                f"{name}: {second} was evaluated on other {key.removesuffix('_sha256')} than {first}, so the scores"
                " cannot be compared; evaluate both on the same ones"
            )
        else:
            raise EvaluationError(
                f"{name}: {key} was {old} for {first} and {new} for {second}; evaluate one again with the other's, or"
                f" allow it with --allow {key}"
            )
    ids, others = ({task_id for values in each.measures.values() for task_id in values} for each in (one, other))
    if ids != others:
        missing = sorted(ids ^ others)[0]
        lacking = second if missing in ids else first
        raise EvaluationError(f"{name}: {lacking} has no result for {missing}; run its evaluation again")


def _said(value: Any, other: Any) -> str:
    if isinstance(value, dict) and isinstance(other, dict):
        value = {key: value.get(key) for key in sorted(value.keys() | other.keys()) if value.get(key) != other.get(key)}
        return ", ".join(f"{key} {_short(part)}" for key, part in value.items())
    return _short(value)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
