"""What a checkpoint descends from, so that the licences of its ancestors are kept over any number of trainings.

A run records in run.json what it starts from; an export writes that to lineage.json and into its card; a model that
came another way is known by its config.json and the `base_model` of its card.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

REPLIT = "replit/replit-code-v1-3b"
"""Its weights and its vocabulary are under CC BY-SA 4.0."""
LINEAGE_FILE = "lineage.json"
RUN_FILE = "run.json"

_REPLIT = re.compile(r"replit(/|--)replit-code-v1-3b(?![\w.])", re.IGNORECASE)
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_MOST_HOPS = 50


@dataclass(frozen=True)
class Ancestor:
    """One model that weights or vocabulary were taken from."""

    name: str
    """A hub id, a run's name and checkpoint, or the last parts of a folder's path."""
    part: str = "weights"
    """`weights` or `vocabulary`."""
    licence: str | None = None
    """None when it is not known."""

    def to_dict(self) -> dict[str, str | None]:
        return asdict(self)


_REPLIT_WEIGHTS = Ancestor(REPLIT, "weights", "CC-BY-SA-4.0")


def lineage_of_run(config: Mapping[str, Any]) -> list[Ancestor]:
    """What a training run's (dumped) configuration starts from, the nearest first; empty for a model from scratch."""
    return _of_run(config, 0)


def lineage(start: str | Path) -> list[Ancestor]:
    """A model to start from, by path or hub id, and before it what it was made from itself, the nearest first."""
    return _of_start(str(start), 0)


def ancestors(folder: str | Path) -> list[Ancestor]:
    """What the checkpoint in a folder was made from, the nearest first; replit-code-v1-3b is its own ancestor."""
    return _once(_above(_followed(Path(folder)), 0))


def write_lineage(folder: Path, found: Iterable[Ancestor]) -> None:
    """Record beside a model what it was made from."""
    record = {"lineage": [ancestor.to_dict() for ancestor in found]}
    (folder / LINEAGE_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _of_run(config: Mapping[str, Any], hops: int) -> list[Ancestor]:
    model = config.get("model") or {}
    # The weights of load_path replace all others, so that a pretrained model is then no ancestor.
    start = config.get("load_path")
    if start is None and model.get("pretrained", True):
        start = model.get("pretrained_model_name_or_path")
    found = _of_start(str(start), hops + 1) if start else []
    vocabulary = (config.get("tokenizer") or {}).get("path")
    return _once([*found, *(_of_vocabulary(Path(vocabulary), hops + 1) if vocabulary else [])])


def _of_start(start: str, hops: int) -> list[Ancestor]:
    folder = _followed(Path(start))
    if _REPLIT.search(start):
        return [_REPLIT_WEIGHTS]
    if not folder.is_dir():
        name = (
            start
            if _HUB_ID.fullmatch(start) and not Path(start).exists()
            else f"the folder {'/'.join(Path(start).parts[-2:])}"
        )
        return [Ancestor(name)]
    run = _json(folder / RUN_FILE)
    # Not to be taken for a hub id, hence the space.
    name = "the folder " + "/".join(part for part in folder.resolve().parts[-2:] if part != "/")
    if isinstance(run.get("config"), dict):
        name = f"{run['config'].get('run_name')} ({folder.resolve().name})"
    licence = _card(folder).get("license")
    own = Ancestor(name, "weights", licence if isinstance(licence, str) else None)
    return _once([own, *_above(folder, hops)])


def _of_vocabulary(folder: Path, hops: int) -> list[Ancestor]:
    """Replit's vocabulary, if the folder holds it: prepared data keep the path that theirs was copied from."""
    copied_from = ((_json(folder.parent / "manifest.json").get("settings") or {}).get("tokenizer") or {}).get("path")
    found = _of_start(str(folder), hops) + (_of_start(copied_from, hops) if copied_from else [])
    return [replace(ancestor, part="vocabulary") for ancestor in found if ancestor.name == REPLIT][:1]


def _above(folder: Path, hops: int) -> list[Ancestor]:
    if hops > _MOST_HOPS:  # checkpoints that were moved may name each other
        return []
    config, run, card = _json(folder / "config.json"), _json(folder / RUN_FILE), _card(folder)
    found = [*_stored(run.get("lineage")), *_stored(_json(folder / LINEAGE_FILE).get("lineage"))]
    if "lineage" not in run and isinstance(run.get("config"), dict):
        found += _of_run(run["config"], hops)
    bases = card.get("base_model") or []
    named = [bases] if isinstance(bases, str) else [base for base in bases if isinstance(base, str)]
    if any(_REPLIT.search(str(name)) for name in [*named, *_names(config)]):
        found.append(_REPLIT_WEIGHTS)
    found += [Ancestor(base) for base in named if not _REPLIT.search(base)]
    return found


def _names(config: Mapping[str, Any]) -> list[Any]:
    own = config.get("replit_code")
    names = [config.get(key) for key in ("_name_or_path", "name_or_path", "tokenizer_name")]
    return names + ([own.get("tokenizer_name")] if isinstance(own, dict) else [])


def _stored(rows: Any) -> list[Ancestor]:
    named = [row for row in rows or [] if isinstance(row, dict) and isinstance(row.get("name"), str)]
    return [Ancestor(row["name"], row.get("part") or "weights", row.get("licence")) for row in named]


def _followed(folder: Path) -> Path:
    """The newest checkpoint, where a run's save_folder is named."""
    return folder / "latest" if not (folder / "config.json").is_file() and (folder / "latest").is_dir() else folder


def _json(file: Path) -> dict[str, Any]:
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _card(folder: Path) -> dict[str, Any]:
    """The YAML in front of a model card."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
        fields = yaml.safe_load(text.split("---\n")[1]) if text.startswith("---\n") else {}
    except (OSError, ValueError, IndexError, yaml.YAMLError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _once(found: Iterable[Ancestor]) -> list[Ancestor]:
    seen: dict[tuple[str, str], Ancestor] = {}
    for ancestor in found:
        known = seen.setdefault((ancestor.name, ancestor.part), ancestor)
        if known.licence is None and ancestor.licence:
            seen[ancestor.name, ancestor.part] = ancestor
    return list(seen.values())
