"""An evaluation's folder for readers: summary.json, report.md and report.html, a table of scores and samples."""

import html
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from codelm.eval import results
from codelm.eval.problem import Benchmark
from codelm.eval.records import Judged
from codelm.eval.scoring import BITS_PER_BYTE, EDIT_SIMILARITY, EXACT_MATCH, GOLD, IDENTIFIER_MATCH, PARSES, Result
from codelm.eval.statistics import Score

MARKDOWN, PAGE = "report.md", "report.html"
_SAMPLES = 12
_NAMES = {
    GOLD: "gold solutions, bits/byte",
    BITS_PER_BYTE: "files, bits/byte",
    EXACT_MATCH: "exact match",
    EDIT_SIMILARITY: "edit similarity",
    IDENTIFIER_MATCH: "identifier match",
    PARSES: "parses",
}
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse}td,th{border-bottom:1px solid #ccc;padding:.3em .8em;text-align:left}"
    "pre{background:#f6f6f6;padding:.8em;overflow-x:auto}.passed{color:#17703a}.not{color:#a02020}"
)


def write_report(folder: Path, result: Result, benchmark: Benchmark) -> Result:
    """Write summary.json and both pages; the result comes back with what other profiles gave in this folder."""
    profiles = {**_earlier(folder), result.profile: result.values()}
    result = replace(result, profiles=profiles)
    results.write_json(folder / results.SUMMARY, result.summary())
    shown = chosen_samples(result.judged)
    prompts = {problem.task_id: problem.prompt for problem in benchmark.problems}
    results.write_text(folder / MARKDOWN, _markdown(result, shown))
    results.write_text(folder / PAGE, _page(result, shown, prompts))
    return result


def score_rows(result: Result) -> list[list[str]]:
    """A row for each score: name, value, standard error, interval, n."""
    return [_row(_NAMES.get(score.name, score.name), score) for score in result.scores.values()]


def kind_rows(result: Result) -> list[list[str]]:
    """The same of each kind of problem, where there are several."""
    return [
        _row(f"{kind}: {_NAMES.get(score.name, score.name)}", score)
        for kind, scores in result.by_kind.items()
        for score in scores.values()
    ]


def _row(title: str, score: Score) -> list[str]:
    error = "" if score.standard_error is None else f"{score.standard_error:.4f}"
    return [title, f"{score.value:.4f}", error, f"{score.low:.4f} – {score.high:.4f}", str(score.n)]


def chosen_samples(judged: Iterable[Judged], count: int = _SAMPLES) -> list[Judged]:
    """Some first samples that passed and some that did not, as many of each as there are."""
    passed, failed = [], []
    for one in judged:
        (passed if one.passed else failed).append(one)
    half = min(len(passed), max(count // 2, count - len(failed)))
    return [*passed[:half], *failed[: count - half]]


def table_row(judged: Judged) -> list[str]:
    """A sample for a logger's table: task, verdict, detail, completion."""
    return [judged.task_id, judged.verdict.kind, judged.verdict.detail, judged.completion]


def _earlier(folder: Path) -> dict[str, dict[str, float]]:
    try:
        return json.loads((folder / results.SUMMARY).read_text(encoding="utf-8"))["profiles"]
    except (OSError, ValueError, KeyError):
        return {}


_HEAD = ["", "value", "± standard error", "95 % interval", "n"]


def _how(result: Result) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(result.kinds.items(), key=lambda item: -item[1]))
    judges = ", ".join(f"{count} {judge}" for judge, count in sorted(result.judges.items()))
    sandbox = result.isolation.describe()
    return f"Verdicts: {kinds}. Judge: {judges}. Sandbox: {sandbox}. Post-processing: {result.profile}."


def _spread(result: Result) -> list[list[str]]:
    names = [name for name in result.scores if name.startswith("pass@")]
    profiles = (result.profiles or {}).items()
    return [[label, *(f"{scores[name]:.4f}" if name in scores else "" for name in names)] for label, scores in profiles]


def _markdown(result: Result, shown: list[Judged]) -> str:
    names = [name for name in result.scores if name.startswith("pass@")]
    parts = [f"# {result.title}\n", _markdown_table(_HEAD, score_rows(result)), _how(result) + "\n"]
    if result.by_kind:
        parts += ["## By kind\n", _markdown_table(_HEAD, kind_rows(result))]
    if len(result.profiles or {}) > 1:
        parts += ["## By post-processing\n", _markdown_table(["profile", *names], _spread(result))]
    parts.append("## Samples\n")
    for one in shown:
        fence = "`" * max(3, 1 + _longest_fence(one.completion))
        detail = " ".join(one.verdict.detail.replace("`", "'").split())
        parts.append(f"### {one.task_id}: {one.verdict.kind}\n\n{detail}\n\n{fence}\n{one.completion}\n{fence}\n")
    return "\n".join(parts)


def _markdown_table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _longest_fence(text: str) -> int:
    runs = "".join(character if character == "`" else " " for character in text).split()
    return max(map(len, runs), default=0)


def _page(result: Result, shown: list[Judged], prompts: dict[str, str]) -> str:
    names = [name for name in result.scores if name.startswith("pass@")]
    kinds = f"<h2>By kind</h2>{_html_table(_HEAD, kind_rows(result))}" if result.by_kind else ""
    spread = (
        f"<h2>By post-processing</h2>{_html_table(['profile', *names], _spread(result))}"
        if len(result.profiles or {}) > 1
        else ""
    )
    samples = "".join(
        f"<details><summary>{html.escape(one.task_id)}: "
        f"<span class={'passed' if one.passed else 'not'}>{one.verdict.kind}</span> "
        f"{html.escape(one.verdict.detail)}</summary>"
        f"<pre>{html.escape(prompts[one.task_id])}<b>{html.escape(one.completion)}</b></pre></details>"
        for one in shown
    )
    title = html.escape(result.title)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
        f"<h1>{title}</h1>{_html_table(_HEAD, score_rows(result))}<p>{html.escape(_how(result))}</p>{kinds}{spread}"
        f"<h2>Samples</h2>{samples}</html>\n"
    )


def _html_table(head: list[str], rows: list[list[str]]) -> str:
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"
