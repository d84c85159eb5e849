"""The model card that goes with every export: what the model is, what made it, how to load it, under which licence."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codelm.data.manifest import Manifest, load_manifest
from codelm.data.reading.fetch import Retry, is_remote
from codelm.data.reading.remote import load_remote_manifest
from codelm.errors import CodelmError
from codelm.export.attribution import licence_section, result_licence
from codelm.languages import LANGUAGES
from codelm.model.lineage import Ancestor

_SHAPE = (
    "model_type",
    "d_model",
    "n_heads",
    "n_layers",
    "expansion_ratio",
    "max_seq_len",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
)
_MOST_LICENCES = 12


@dataclass(frozen=True)
class CardFacts:
    """What a card says of a model.

    Attributes:
        config: the exported config.json.
        run: the checkpoint's run.json, if it has one.
        usage: Markdown; how this format is used.
        measured: sentences, such as the parity check's.
        limits: sentences that go with this format alone.
        scores: rows of a table, see `codelm.export.scores`.
        front: further lines of YAML in front of the card.
    """

    name: str
    parameters: int
    config: dict[str, Any]
    weights: str
    run: dict[str, Any] | None
    lineage: Sequence[Ancestor]
    usage: str
    measured: Sequence[str]
    limits: Sequence[str] = ()
    scores: Sequence[str] = ()
    front: Sequence[str] = field(default_factory=tuple)


def model_card(facts: CardFacts) -> str:
    """README.md of an export."""
    lines = ["---", *facts.front, "pipeline_tag: text-generation", "tags: [code]"]
    licence = result_licence(facts.lineage)
    lines += [f"license: {licence.lower()}"] if licence else []
    bases = [ancestor.name for ancestor in facts.lineage if ancestor.part == "weights" and " " not in ancestor.name]
    lines += ["base_model:", *(f"- {json.dumps(base)}" for base in bases)] if bases else []
    lines += ["---", "", f"# {facts.name}", ""]
    lines += [f"A causal language model of source code with {facts.parameters:,} parameters.", ""]
    lines += ["## Architecture", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {facts.config[key]} |" for key in _SHAPE if key in facts.config]
    attention = facts.config.get("attn_config") or {}
    lines += [f"| positions | ALiBi, bias at most {attention['alibi_bias_max']} |"] if attention.get("alibi") else []
    lines += [f"| weights | {facts.weights} |", "", *_training(facts.run, facts.lineage)]
    lines += ["## How to use it", "", facts.usage]
    lines += ["## Intended use", "", _INTENDED, ""]
    lines += ["## Scores", "", *_scores(facts.scores)]
    lines += ["## Measured at export", "", *(f"- {fact}" for fact in facts.measured), ""] if facts.measured else []
    lines += ["## Limits", "", _LIMIT, *(f"- {limit}" for limit in facts.limits), ""]
    lines += licence_section(facts.lineage, _changes(facts))
    return "\n".join(lines).rstrip() + "\n"


_INTENDED = (
    "Completing source code in an editor, or as a base for further training on code of one's own. It is not meant for "
    "conversation, for decisions about people, or for code that runs without being read."
)
_LIMIT = (
    "- It completes code; it was not taught to follow instructions, and what it writes may be wrong, insecure, "
    "offensive, or close to code it was trained on, with that code's licence. Run it only where running wrong code "
    "does no harm."
)


def _scores(rows: Sequence[str]) -> list[str]:
    if not rows:
        return [
            "None were found: no evaluation of these weights lies beside the checkpoint or its run "
            "(`python eval/main.py` makes one, and a new export then shows it).",
            "",
        ]
    return ["| | value (95 % interval) | how |", "|---|---|---|", *rows, ""]


def _changes(facts: CardFacts) -> list[str]:
    changes = []
    if facts.run is not None:
        changes.append(
            f"trained further on other data (run `{facts.run['config']['run_name']}`: {facts.run['batch']:,} batches, "
            f"{facts.run['tokens']:,} tokens), which changed every weight"
        )
    runs = [ancestor.name for ancestor in facts.lineage if " (ba" in ancestor.name]
    changes += [f"trained further before that, in `{run}`" for run in runs]
    return [*changes, f"written in the format of this folder, with weights in {facts.weights}"]


def _training(run: dict[str, Any] | None, lineage: Sequence[Ancestor]) -> list[str]:
    lines = ["## Training", ""]
    weights = [ancestor for ancestor in lineage if ancestor.part == "weights"]
    if weights:
        chain = ", which was made from ".join(ancestor.name for ancestor in weights)
        lines += [f"Made from {chain}.", ""]
    if run is None:
        return [*lines, "The checkpoint came without a record of its training.", ""]
    config, data = run["config"], run["data"]
    optimizer = config["optimizer"]
    start = weights[0].name if weights else "freshly initialised weights"
    manifest = _manifest(config["train_data"], data["manifest_hash"])
    lines += [
        f"Run `{config['run_name']}`: {run['batch']:,} batches, {run['tokens']:,} tokens, starting from {start}.",
        f"Optimizer {optimizer['name']}, learning rate {optimizer['lr']}; batches of "
        f"{config['global_train_batch_size']} samples of {config['max_seq_len']} tokens; seed {config['seed']}.",
        f"Data manifest `{data['manifest_hash'][:16]}`; tokenizer `{run['tokenizer']['model_sha256'][:16]}`.",
        "",
        *_mixture(data["mixture"], manifest, config["train_data"]["split"]),
        "",
        *_sources(manifest, config["train_data"]["split"]),
        "Versions: " + ", ".join(f"{name} {version}" for name, version in run["versions"].items()) + ".",
        "",
    ]
    return lines


def _mixture(shares: dict[str, float], manifest: Manifest | None, split: str) -> list[str]:
    counts = manifest.splits.get(split, {}) if manifest else {}
    lines = ["| language | share of training | files | tokens in the corpus |", "|---|---|---|---|"]
    for language, share in sorted(shares.items(), key=lambda item: -item[1]):
        title = LANGUAGES[language].title if language in LANGUAGES else language
        info = counts.get(language)
        files, tokens = (f"{info.files:,}", f"{info.tokens:,}") if info else ("", "")
        lines.append(f"| {title} | {share:.1%} | {files} | {tokens} |")
    return lines


def _sources(manifest: Manifest | None, split: str) -> list[str]:
    if manifest is None:
        return [
            "The corpus is no longer where the run found it, or is another one by now; its sources and their licences "
            "are not known here.",
            "",
        ]
    streams = manifest.splits.get(split, {}).values()
    lines = ["| source | declared licence | files | tokens |", "|---|---|---|---|"]
    for name, source in manifest.settings.get("sources", {}).items():
        declared = source.get("licence") if isinstance(source, dict) else None
        shares = [stream.sources[name] for stream in streams if name in stream.sources]
        files, tokens = sum(share.files for share in shares), sum(share.tokens for share in shares)
        lines.append(f"| {name} | {declared or 'none'} | {files:,} | {tokens:,} |")
    found: Counter[str] = Counter()
    for stream in streams:
        found.update(stream.licences)
    if found:
        ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
        named = ", ".join(f"{licence} ({count:,})" for licence, count in ordered[:_MOST_LICENCES])
        others = f" and {len(ordered) - _MOST_LICENCES} others" if len(ordered) > _MOST_LICENCES else ""
        lines += ["", f"Licences of the files (by their text, their folder's or the declaration): {named}{others}."]
    return [*lines, ""]


def _manifest(section: dict[str, Any], manifest_hash: str) -> Manifest | None:
    """The manifest of the run's data, if it is still there and within reach."""
    path = section["path"]
    try:
        manifest = load_remote_manifest(path, Retry(attempts=2)) if is_remote(path) else load_manifest(path)
    except CodelmError:
        return None
    return manifest if manifest.hash == manifest_hash else None


def read_run(folder: Path) -> dict[str, Any] | None:
    """The run.json of a checkpoint folder; None when it has none, or one that says nothing of a run."""
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    needed = ("config", "data", "tokenizer", "versions", "batch", "tokens")
    return run if isinstance(run, dict) and all(key in run for key in needed) else None
