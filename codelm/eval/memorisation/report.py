"""What audits found, system beside system: rates of extraction by length, canaries, in words and tables. No torch."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codelm.eval import results
from codelm.eval.compare.blocks import Block, Heading, Table, Text
from codelm.eval.compare.comparison import Appendix
from codelm.eval.compare.paired import holm, independent_difference
from codelm.eval.statistics import wilson

Rows = list[dict[str, Any]]

_MOST_SHOWN = 5
_SURE = 0.05


def report(folders: Mapping[str, Path], planted: Mapping[str, tuple[int, int]] | None = None) -> Appendix:
    """The audits of systems, the first of which is the base.

    Args:
        folders: of `codelm.eval.memorisation.audit.audit`, by system.
        planted: of `codelm.eval.memorisation.passages.planted`.
    """
    settings = {name: results.read_json(folder / results.SETTINGS) for name, folder in folders.items()}
    extraction = {name: results.read_lines(folder / "extraction.jsonl") for name, folder in folders.items()}
    exposure = {name: results.read_lines(folder / "exposure.jsonl") for name, folder in folders.items()}
    lengths = next(iter(settings.values()))["lengths"]
    prompt, asked = lengths["prompt"], lengths["asked"]
    facts = {
        "prompt_tokens": prompt,
        "extraction": {name: _rates(rows, asked) for name, rows in extraction.items()},
        "canaries": {name: _exposures(rows, planted or {}) for name, rows in exposure.items() if rows},
    }
    blocks = [Heading("Does it repeat its training data?"), *_extraction_blocks(extraction, facts, prompt, asked)]
    blocks += _canary_blocks(exposure, facts, planted or {})
    sentences = [_sentence(facts, list(folders), prompt, asked[-1]), _canary_sentence(facts["canaries"])]
    return Appendix("memorisation", tuple(blocks), facts, " ".join(filter(None, sentences)))


def _rates(rows: Rows, asked: Sequence[int]) -> dict[str, Any]:
    """Files, and those of which so many tokens came out, for the files trained on and those held out."""
    found: dict[str, Any] = {}
    for kind, trained in (("trained", True), ("held_out", False)):
        matched = [row["matched"] for row in rows if (row["split"] == "train") == trained]
        found[kind] = {"files": len(matched), **{str(n): sum(one >= n for one in matched) for n in asked}}
    return found


def _extraction_blocks(
    extraction: Mapping[str, Rows], facts: dict[str, Any], prompt: int, asked: Sequence[int]
) -> list[Block]:
    rows = []
    for name, rates in facts["extraction"].items():
        for kind, title in (("trained", "files of the training corpus"), ("held_out", "files held out")):
            files = rates[kind]["files"]
            if files:
                cells = (_share(rates[kind][str(n)], files) for n in asked)
                rows.append((f"{name}: {title}", f"{files:,}", *cells))
    if not rows:
        return [Text("No file of the corpus is long enough for the audit.", "note")]
    blocks: list[Block] = [
        Text(
            f"Each model was shown the first {prompt} tokens of a file and went on greedily. The table says in how many"
            " files the next tokens are exactly the file's. Licence headers, imports and other common beginnings come"
            " out of any model: what counts is more than the first system gives, and more than held-out files give.",
            "note",
        ),
        Table(("", "files", *(f"next {n} tokens" for n in asked)), tuple(rows)),
    ]
    longest = {
        name: sorted(rows, key=lambda row: (-row["matched"], row["task_id"])) for name, rows in extraction.items()
    }
    last = list(longest)[-1]
    shown = [row for row in longest[last] if row["split"] == "train" and row["matched"] >= asked[0]][:_MOST_SHOWN]
    if shown:
        cells = tuple((row["path"], f"{row['matched']}", _start(row["text"])) for row in shown)
        blocks += [Heading(f"What {last} repeated of its training files", small=True)]
        blocks += [Table(("file", "tokens", "beginning with"), cells)]
    return blocks


def _sentence(facts: dict[str, Any], names: Sequence[str], prompt: int, n: int) -> str:
    rates = facts["extraction"][names[-1]]
    trained, held = rates["trained"], rates["held_out"]
    if not trained["files"]:
        return ""
    told = f"{names[-1]} wrote the next {n} tokens exactly in {_percent(trained[str(n)], trained['files'])} of files"
    first = facts["extraction"][names[0]]["trained"]
    base = f"{names[0]} {_percent(first[str(n)], first['files'])}" if len(names) > 1 and first["files"] else ""
    more = ""
    if held["files"]:
        control = f"files held out of training {_percent(held[str(n)], held['files'])}"
        base = ", ".join(filter(None, [base, control]))
        low, _ = independent_difference(trained[str(n)], trained["files"], held[str(n)], held["files"])
        more = ": more than of files it never saw" if low > 0 else ": no measurable difference to files it never saw"
    return f"Memorisation: shown the first {prompt} tokens of a file it was trained on, {told} ({base}){more}."


def _exposures(rows: Rows, planted: Mapping[str, tuple[int, int]]) -> list[dict[str, Any]]:
    """By kind and number of repeats, for the canaries whose secret training read, and for those it did not."""
    groups: dict[tuple[str, int, bool], Rows] = {}
    for row in rows:
        learnt = planted.get(row["task_id"], (0, row["repeats"]))[1] > 0
        groups.setdefault((row["kind"], row["repeats"], learnt), []).append(row)
    found = [
        {
            "kind": kind,
            "repeats": repeats,
            "in_training": learnt,
            "canaries": len(group),
            "extracted": sum(row["extracted"] for row in group),
            "exposure": math.fsum(row["exposure"] for row in group) / len(group),
            "highest": max(row["exposure"] for row in group),
            "most": math.log2(group[0]["candidates"]),
            "chance": chance([(row["rank"], row["candidates"]) for row in group]),
        }
        for (kind, repeats, learnt), group in sorted(groups.items())
    ]
    raised = holm([group["chance"] for group in found])
    return [{**group, "chance": value} for group, value in zip(found, raised, strict=True)]


def chance(ranks: Sequence[tuple[int, int]]) -> float:
    """How often ranks so low, each among so many, come of chance alone: Fisher's combined probability."""
    half = -math.fsum(math.log(rank / of) for rank, of in ranks)
    if half <= 0:
        return 1.0
    # The upper tail of chi-square with 2n degrees of freedom at 2 * half.
    return min(1.0, math.fsum(math.exp(k * math.log(half) - half - math.lgamma(k + 1)) for k in range(len(ranks))))


def _canary_blocks(
    exposure: Mapping[str, Rows], facts: dict[str, Any], planted: Mapping[str, tuple[int, int]]
) -> list[Block]:
    if not facts["canaries"]:
        return []
    rows = []
    for name, groups in facts["canaries"].items():
        for group in groups:
            where = "in training" if group["in_training"] else "removed before training"
            rows.append((
                f"{name}: {group['kind']}, {_in_files(group['repeats'])}, {where}",
                f"{group['canaries']}", f"{group['extracted']}", f"{group['exposure']:.1f} of {group['most']:.1f}",
                f"{group['highest']:.1f}", f"{group['chance']:.3f}" if group["chance"] >= 0.001 else "< 0.001",
            ))  # fmt: skip
    told = ""
    if planted:
        files, whole = (sum(counts[place] for counts in planted.values()) for place in (0, 1))
        told = f" Of the planted files {files} are in the training split; {whole} of them still hold their secret."
    return [
        Heading("Planted secrets (canaries)", small=True),
        Text(
            "Secrets made up for this purpose were planted in the corpus. Extracted: greedy decoding says the secret"
            " behind its own beginning. Exposure: how far up the secret stands among random others by likelihood, in"
            " bits; a model that never saw it has 1.4 on average. Chance: how often such ranks come of chance alone,"
            " raised after Holm." + told,
            "note",
        ),
        Table(("", "canaries", "extracted", "mean exposure", "highest", "chance"), tuple(rows)),
    ]


def _canary_sentence(canaries: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    if not canaries:
        return ""
    name = list(canaries)[-1]
    groups = canaries[name]
    count, said = (sum(group[key] for group in groups) for key in ("canaries", "extracted"))
    learnt = [group for group in groups if group["chance"] < _SURE]
    if said:
        return f"Of {count} planted secrets {name} says {said}."
    if learnt:
        kinds = "; ".join(f"{group['kind']} {_in_files(group['repeats'])}" for group in learnt)
        return f"None of {count} planted secrets comes out of {name}, but it has learnt something of them ({kinds})."
    return f"None of {count} planted secrets comes out of {name}, nor is there a trace of them in their likelihoods."


def _share(count: int, of: int) -> str:
    low, high = wilson(count, of)
    return f"{_percent(count, of)} ({100 * low:.1f} to {100 * high:.1f})"


def _in_files(count: int) -> str:
    return f"in {count} file{'s' if count > 1 else ''}"


def _percent(count: int, of: int) -> str:
    return f"{100 * count / of:.1f} %"


def _start(text: str) -> str:
    line = " ⏎ ".join(part.strip() for part in text.splitlines() if part.strip())
    return line if len(line) <= 80 else f"{line[:79]}…"
