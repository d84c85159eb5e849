"""`report.html` of a run: curves, languages, evaluation, samples, configuration, data, environment."""

import logging
from collections.abc import Iterator
from html import escape
from pathlib import Path

import yaml

from codelm.data.manifest import Manifest, load_manifest
from codelm.data.reading.fetch import is_remote
from codelm.data.shards import write_atomically
from codelm.errors import CodelmError
from codelm.html.charts import bars, curves
from codelm.html.page import note, page, section, table
from codelm.languages import LANGUAGES
from codelm.train.report.history import History, read_history

log = logging.getLogger(__name__)

REPORT_FILE = "report.html"

_LOSS, _TOKENS, _MFU = "loss/train/total", "throughput/tokens_per_sec", "throughput/mfu"
_BITS, _NATS = "BitsPerByte", "CrossEntropy"
_SAMPLE_CHARACTERS = 1200
_MOST_SAMPLES = 12


def write_report(folder: Path) -> Path:
    """Write the report of the run in a save_folder, finished or not; return its path.

    Raises:
        CheckpointError: there is no run.
        OSError: the disk is full.
    """
    history = read_history(folder)
    name = str(_config(history).get("run_name", folder.name))
    parts = [
        f"<h1>{escape(name)}</h1>",
        _summary(history),
        section("Curves", _curves(history)),
        section("Languages", _languages(history)),
        section("Evaluation", _evaluation(history)),
        section("Samples", _samples(history)),
        section("Data", _data(history)),
        section("Environment", _environment(history)),
        section("Configuration", _settings(history)),
    ]
    write_atomically(folder / REPORT_FILE, page(name, parts))
    return folder / REPORT_FILE


def leave_report(folder: Path) -> None:
    """Write the report at the end of a run; what fails here is no reason for the run to fail."""
    try:
        log.info("report: %s", write_report(folder))
    except (CodelmError, OSError, KeyError, TypeError, ValueError) as error:
        log.warning("%s was not written: %s: %s", folder / REPORT_FILE, type(error).__name__, error)


def _config(history: History) -> dict:
    return (history.run or {}).get("config", {})


def _summary(history: History) -> str:
    losses = history.metrics.get(_LOSS, [])
    batch = int(losses[-1][0]) if losses else 0
    tokens = history.last("time/token")
    seconds = sum(value for _, value in history.metrics.get("time/step_seconds", []))
    facts = [f"{batch:,} batches"]
    if tokens is not None:
        facts.append(f"{tokens:,.0f} tokens")
    if seconds:
        facts.append(f"{_duration(seconds)} of training steps")
    if losses:
        facts.append(f"training loss {losses[0][1]:.3f} → {losses[-1][1]:.3f}")
    bits = _mean_bits(history)
    if bits:
        facts.append(f"mean validation bits per byte {bits[0][1]:.3f} → {bits[-1][1]:.3f}")
    speed, mfu = history.last(_TOKENS), history.last(_MFU)
    if speed is not None:
        facts.append(f"{speed:,.0f} tokens/s" + (f" (MFU {mfu:.1%})" if mfu is not None else ""))
    skipped = history.last("nan_guard/skipped_steps")
    if skipped:
        facts.append(f"{skipped:.0f} steps skipped, whose loss or gradient was not finite")
    if history.last("early_stopper/stopped"):
        facts.append("stopped early, since validation got no better")
    return f"<p>{escape('; '.join(facts))}.</p>"


def _curves(history: History) -> str:
    metrics = history.metrics
    validation = {label: metrics[f"metrics/{label}/{_BITS}"] for label in _labels(history)}
    streams = {
        stream: metrics[f"loss/train/{stream}"] for stream in _streams(history) if f"loss/train/{stream}" in metrics
    }
    norms = {
        name: metrics[f"l2_norm/{name}/global"]
        for name in ("grad", "param", "update")
        if f"l2_norm/{name}/global" in metrics
    }
    drawn = [
        ("Training loss", curves(_named(metrics, {"loss": _LOSS}))),
        ("Validation, bits per byte", curves(validation)),
        ("Training loss by language", curves(streams)),
        ("Learning rate", curves(_named(metrics, {"lr": "lr"}))),
        ("Norms", curves(norms, logarithmic=True)),
        ("Tokens a second", curves(_named(metrics, {"tokens/s": _TOKENS}))),
        ("MFU", curves(_named(metrics, {"MFU": _MFU}))),
        ("Share of time that waits for data", curves(_named(metrics, {"share": "time/data_wait_share"}))),
        ("Peak memory, GB", curves(_named(metrics, {"GB": "memory/peak_gb"}))),
    ]
    shown = "".join(f"<div><h3>{escape(title)}</h3>{chart}</div>" for title, chart in drawn if chart)
    return f'<div class="charts">{shown}</div>' if shown else ""


def _named(metrics: dict[str, list], names: dict[str, str]) -> dict[str, list]:
    return {label: metrics[name] for label, name in names.items() if name in metrics}


def _labels(history: History) -> list[str]:
    """Of validation sets."""
    names = (name.split("/", 1)[1].rpartition("/") for name in history.metrics if name.startswith("metrics/"))
    return sorted({label for label, _, metric in names if metric == _BITS})


def _streams(history: History) -> list[str]:
    """Of the mixture, the largest first."""
    shares = {name[8:-6]: points[-1][1] for name, points in history.metrics.items() if _is_share(name)}
    return sorted(shares, key=lambda stream: (-shares[stream], stream))


def _is_share(name: str) -> bool:
    return name.startswith("mixture/") and name.endswith("/share")


def _mean_bits(history: History) -> list[tuple[float, float]]:
    at: dict[float, list[float]] = {}
    for label in _labels(history):
        for batch, value in history.metrics[f"metrics/{label}/{_BITS}"]:
            at.setdefault(batch, []).append(value)
    return [(batch, sum(values) / len(values)) for batch, values in sorted(at.items())]


def _languages(history: History) -> str:
    streams = _streams(history)
    shares = {_title(stream): history.last(f"mixture/{stream}/share") or 0.0 for stream in streams}
    chart = bars(shares, {name: f"{share:.1%}" for name, share in shares.items()}) if shares else ""
    known = [*streams, *(label for label in _labels(history) if label.rpartition("/")[2] not in streams)]
    rows = []
    for name in known:
        bits = _of_label(history, name, _BITS)
        nats = _of_label(history, name, _NATS)
        share, loss = history.last(f"mixture/{name}/share"), history.last(f"loss/train/{name}")
        rows.append(
            [
                _title(name),
                f"{share:.1%}" if share is not None else "",
                f"{loss:.3f}" if loss is not None else "",
                f"{bits[0][1]:.3f}" if bits else "",
                f"{bits[-1][1]:.3f}" if bits else "",
                f"{min(value for _, value in bits):.3f}" if bits else "",
                f"{nats[-1][1]:.3f}" if nats else "",
            ]
        )
    header = ["", "share of training", "training loss", "bits/byte first", "last", "best", "nats/token last"]
    return chart + (table(header, rows) if rows else "")


def _of_label(history: History, name: str, metric: str) -> list[tuple[float, float]]:
    label = next((label for label in _labels(history) if name in (label, label.rpartition("/")[2])), name)
    return history.metrics.get(f"metrics/{label}/{metric}", [])


def _title(language: str) -> str:
    return LANGUAGES[language].title if language in LANGUAGES else language


def _evaluation(history: History) -> str:
    found = {name[5:]: points for name, points in history.metrics.items() if name.startswith("eval/")}
    if not found:
        return ""
    rows = [[name, f"{points[-1][0]:,.0f}", f"{points[-1][1]:.4f}"] for name, points in sorted(found.items())]
    scores = {name: points for name, points in found.items() if "pass@" in name and len(points) > 1}
    return curves(scores) + table(["", "batch", "value"], rows)


def _samples(history: History) -> str:
    if not history.samples:
        return ""
    last = max(row.get("batch", 0) for row in history.samples)
    parts = [note(f"Completions at batch {last:,}; the prompt stands before the bold text.")]
    for row in [row for row in history.samples if row.get("batch") == last][:_MOST_SAMPLES]:
        prompt, completion = str(row.get("prompt", "")), str(row.get("completion", ""))
        parts.append(
            f'<p class="from">{escape(_title(str(row.get("source", ""))))}</p>'
            f"<pre>{escape(prompt[-_SAMPLE_CHARACTERS:])}<b>{escape(completion[:_SAMPLE_CHARACTERS])}</b></pre>"
        )
    return "".join(parts)


def _data(history: History) -> str:
    run = history.run
    if run is None:
        return ""
    train = run["config"]["train_data"]
    digest = run["data"]["manifest_hash"][:16]
    body = f"<p>{escape(train['path'])}, split {escape(train['split'])}, manifest {escape(digest)}.</p>"
    manifest = _manifest(train["path"], run["data"]["manifest_hash"])
    if manifest is None:
        return body + note("The corpus is no longer there, or is another one by now.")
    streams = manifest.splits.get(train["split"], {})
    rows = [
        [_title(name), f"{info.files:,}", f"{info.bytes / 1e6:,.1f}", f"{info.tokens:,}", f"{info.samples:,}"]
        for name, info in sorted(streams.items(), key=lambda item: -item[1].tokens)
    ]
    sources = [
        [str(name), str(source.get("path", "")), str(source.get("licence") or "")]
        for name, source in manifest.settings.get("sources", {}).items()
        if isinstance(source, dict)
    ]
    body += table(["", "files", "MB", "tokens", "samples"], rows)
    return body + (table(["source", "path", "declared licence"], sources) if sources else "")


def _manifest(path: str, manifest_hash: str) -> Manifest | None:
    if is_remote(path):
        return None
    try:
        manifest = load_manifest(path)
    except CodelmError:
        return None
    return manifest if manifest.hash == manifest_hash else None


def _environment(history: History) -> str:
    run = history.run
    if run is None:
        return ""
    rows = [["ranks", str(run.get("world_size", ""))]]
    rows += [[name, str(value)] for name, value in run.get("hardware", {}).items()]
    rows += [[name, str(version)] for name, version in run.get("versions", {}).items()]
    rows += [["checkpoint", path.name] for path in _newest(history)]
    return table(["", ""], rows)


def _newest(history: History) -> Iterator[Path]:
    latest = history.folder / "latest"
    if latest.exists():
        yield latest.resolve()


def _settings(history: History) -> str:
    config = _config(history)
    if not config:
        return note("No checkpoint says with which configuration the run was made.")
    return f"<pre>{escape(yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=110))}</pre>"


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
