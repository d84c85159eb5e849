"""The report of a prepared corpus: `report.html`, one page that needs nothing else and holds no script.

What a user must see before training: which languages and how much, how long documents are, what was dropped and why,
licences, secrets, how often a mixture repeats a language, and samples as the model will read them.
"""

import json
from collections import Counter
from collections.abc import Mapping
from html import escape
from pathlib import Path

import yaml

from codelm.config.fields import Preset
from codelm.data.manifest import Manifest, StreamInfo
from codelm.data.packing.pack import DOCUMENTS_FILE
from codelm.data.packing.trace import documents_of_sample
from codelm.data.reading.shard_reader import ShardReader
from codelm.data.shards import write_atomically
from codelm.html.charts import bars, columns, legend, stacked_bars
from codelm.html.page import page, section, table
from codelm.languages import LANGUAGES, preset_shares
from codelm.tokenizer import Tokenizer

REPORT_FILE = "report.html"
MOST_PASSES = 4
"""Passes over the same data from which on it teaches little (Muennighoff et al., arXiv 2305.16264)."""

_LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_REASONS_SHOWN = 8
_COUNTED_SHOWN = 5
_SAMPLE_CHARACTERS = 1500
_PRESETS: tuple[Preset, ...] = ("corpus", "natural", "replit-order")


def write_report(folder: Path, manifest: Manifest, tokenizer: Tokenizer) -> None:
    """Write `report.html` into the output folder; the same corpus gives the same bytes."""
    parts = [
        f"<h1>{escape(manifest.run_name)}</h1>",
        _summary(manifest),
        section("Languages", _languages(manifest)),
        section("Lengths", _lengths(folder, manifest)),
        section("Dropped files", _dropped(manifest.dropped)),
        section("Sources", _sources(manifest)),
        section("Licences", _licences(manifest)),
        section("Secrets and personal data", _secrets(manifest)),
        section("Evaluation problems", _contamination(manifest)),
        section("Passes over the data", _passes(manifest)),
        section("Samples", _samples(folder, manifest, tokenizer)),
        section(
            "Settings", f"<pre>{escape(yaml.safe_dump(manifest.settings, sort_keys=False, allow_unicode=True))}</pre>"
        ),
    ]
    write_atomically(folder / REPORT_FILE, page(manifest.run_name, parts))


def tokens_until_repeated(manifest: Manifest, preset: Preset) -> tuple[float, str] | None:
    """How many tokens of training a mixture allows until a language has been seen MOST_PASSES times, and which one.

    None when the mixture and the corpus have no language in common.
    """
    train = {name: stream for name, stream in manifest.splits["train"].items() if stream.samples}
    tokens = {name: float(stream.samples * manifest.max_seq_len) for name, stream in train.items()}
    shares = dict(tokens) if preset == "corpus" else preset_shares(preset)
    shares = {name: share for name, share in shares.items() if name in tokens and share > 0}
    if not shares:
        return None
    total = sum(shares.values())
    allowed = {name: MOST_PASSES * tokens[name] * total / share for name, share in shares.items()}
    first = min(allowed, key=lambda name: (allowed[name], name))
    return allowed[first], first


def _by_size(streams: Mapping[str, StreamInfo]) -> list[str]:
    return sorted(streams, key=lambda name: (-streams[name].bytes, name))


def _title(language: str) -> str:
    return LANGUAGES[language].title if language in LANGUAGES else language


def _summary(manifest: Manifest) -> str:
    streams = list(manifest.splits["train"].values())
    files, size, tokens = (sum(getattr(stream, name) for stream in streams) for name in ("files", "bytes", "tokens"))
    dropped = sum(sum(reasons.values()) for reasons in manifest.dropped.values())
    held = sum(
        stream.files for split, found in manifest.splits.items() if split != "train" for stream in found.values()
    )
    tokenizer = manifest.tokenizer
    withdrawn = f"<p>Withdrawn afterwards: {escape(', '.join(manifest.withdrawn))}.</p>" if manifest.withdrawn else ""
    return (
        f"<p>{files:,} files, {size / 1e6:,.1f} MB, {tokens:,} tokens to train on; {held:,} files held out;"
        f" {dropped:,} files dropped. Samples of {manifest.max_seq_len:,} tokens ({escape(manifest.dtype)}),"
        f" a tokenizer of {tokenizer.vocab_size:,} tokens ({escape(tokenizer.model_sha256[:12])}). codelm"
        f" {escape(manifest.codelm_version)}, corpus {manifest.hash[:12]}.</p>{withdrawn}"
    )


def _languages(manifest: Manifest) -> str:
    train = manifest.splits["train"]
    total = sum(stream.tokens for stream in train.values()) or 1
    order = sorted(train, key=lambda name: (-train[name].tokens, name))
    shares = {_title(name): train[name].tokens / total for name in order}
    header = ["", "files", "MB", "tokens", "share", "bytes/token", "samples", "validation files", "held-out files"]
    rows = []
    for name in order:
        stream = train[name]
        others = [manifest.splits.get(split, {}).get(name) for split in ("validation", "held_out")]
        rows.append(
            [
                _title(name),
                f"{stream.files:,}",
                f"{stream.bytes / 1e6:,.2f}",
                f"{stream.tokens:,}",
                f"{stream.tokens / total:.1%}",
                f"{stream.bytes / stream.tokens:.2f}" if stream.tokens else "",
                f"{stream.samples:,}",
                *(f"{other.files:,}" if other is not None else "" for other in others),
            ]
        )
    return bars(shares, {name: f"{share:.1%}" for name, share in shares.items()}) + table(header, rows)


def _lengths(folder: Path, manifest: Manifest) -> str:
    counts = [0] * (len(_LENGTHS) + 1)
    for language in manifest.splits["train"]:
        with (folder / "train" / language / DOCUMENTS_FILE).open(encoding="utf-8") as lines:
            for line in lines:
                tokens = json.loads(line)["tokens"]
                counts[sum(tokens > bound for bound in _LENGTHS)] += 1
    labels = [f"≤{_thousands(bound)}" for bound in _LENGTHS] + [f">{_thousands(_LENGTHS[-1])}"]
    padding = sum(stream.padding for stream in manifest.splits["train"].values())
    rows = sum(stream.samples for stream in manifest.splits["train"].values()) * manifest.max_seq_len
    packing = manifest.settings.get("packing", "concat")
    what = "Files" if packing == "concat" else "Files, or the parts that they were cut into,"
    filled = f" Padding fills {padding / rows:.2%} of the samples." if padding and rows else ""
    return f'<p class="note">{what} by their number of tokens.{filled}</p>{columns(counts, labels)}'


def _thousands(number: int) -> str:
    return f"{number // 1024}k" if number >= 1024 else str(number)


def _dropped(dropped: Mapping[str, Mapping[str, int]]) -> str:
    if not dropped:
        return "<p>None.</p>"
    reasons: Counter[str] = Counter()
    for found in dropped.values():
        reasons.update(found)
    # What is of no language at all would dwarf the rest, and is no matter of rules.
    drawn = sum((Counter(found) for name, found in dropped.items() if name != "other"), Counter[str]())
    shown = [reason for reason, _ in drawn.most_common(_REASONS_SHOWN)]
    parts = [*shown, "others"] if len(drawn) > len(shown) else shown
    order = sorted((name for name in dropped if name != "other"), key=lambda name: (-sum(dropped[name].values()), name))
    stacks = {
        _title(name): [
            *(dropped[name].get(reason, 0) for reason in shown),
            sum(number for reason, number in dropped[name].items() if reason not in shown),
        ][: len(parts)]
        for name in order
    }
    texts = {_title(name): f"{sum(dropped[name].values()):,}" for name in order}
    other = sum(dropped.get("other", {}).values())
    note = f'<p class="note">And {other:,} files of no known language.</p>' if other else ""
    by_reason = table(["reason", "files"], ([reason, f"{number:,}"] for reason, number in reasons.most_common()))
    return legend(parts) + stacked_bars(stacks, texts, parts) + note + by_reason


def _sources(manifest: Manifest) -> str:
    found: dict[str, Counter[str]] = {key: Counter() for key in manifest.by_source}
    licences: dict[str, Counter[str]] = {}
    for stream in manifest.splits["train"].values():
        for key, share in stream.sources.items():
            found.setdefault(key, Counter()).update(files=share.files, bytes=share.bytes, tokens=share.tokens)
            licences.setdefault(key, Counter()).update(share.licences)
    rows = []
    for key, number in sorted(found.items()):
        left = manifest.by_source.get(key, {})
        counted = (licences.get(key, {}), left.get("dropped", {}), left.get("secrets", {}))
        figures = [f"{number['files']:,}", f"{number['bytes'] / 1e6:,.2f}", f"{number['tokens']:,}"]
        rows.append([key, *figures, *map(_most_common, counted)])
    return table(["", "files", "MB", "tokens", "licences", "dropped", "secrets"], rows) if found else ""


def _most_common(counted: Mapping[str, int]) -> str:
    most = Counter(counted).most_common()
    shown = ", ".join(f"{name} {number:,}" for name, number in most[:_COUNTED_SHOWN])
    return f"{shown}, {len(most) - _COUNTED_SHOWN} more" if len(most) > _COUNTED_SHOWN else shown


def _licences(manifest: Manifest) -> str:
    found: Counter[str] = Counter()
    for stream in manifest.splits["train"].values():
        found.update(stream.licences)
    return table(["licence", "files"], ([name, f"{files:,}"] for name, files in found.most_common())) if found else ""


def _secrets(manifest: Manifest) -> str:
    found: Counter[str] = Counter()
    for kinds in manifest.secrets.values():
        found.update(kinds)
    rules = manifest.settings.get("secrets", {})
    policies = f"secrets {rules.get('policy')}, personal data {rules.get('personal')}"
    note = f'<p class="note">Policy: {escape(policies)}. Looked for before anything was written.</p>'
    if not found:
        return note + "<p>None found.</p>"
    return note + table(["kind", "found"], ([kind, f"{number:,}"] for kind, number in found.most_common()))


def _contamination(manifest: Manifest) -> str:
    sought = manifest.sought or ()
    parts = [f'<p class="note">{escape(text)}.</p>' for one in sought if (text := one.warning()) is not None]
    if sought:
        named = ", ".join(f"{name} ({number:,} problems)" for one in sought for name, number in one.problems.items())
        parts.insert(0, f'<p class="note">Looked for: {escape(named)}.</p>')
    if not manifest.contamination:
        return "".join([*parts, "<p>No file holds one of the benchmarks' problems.</p>"])
    for benchmark, entry in manifest.contamination.items():
        rows = [
            [problem, ", ".join(sorted(files)[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")]
            for problem, files in entry["problems"].items()
        ]
        parts.append(
            f"<p>{escape(benchmark)}: {entry['files']:,} files with {entry['problems_found']:,} problems, dropped.</p>"
            + table(["problem", "files"], rows[:20])
        )
    return "".join(parts)


def _passes(manifest: Manifest) -> str:
    rows = []
    for preset in _PRESETS:
        found = tokens_until_repeated(manifest, preset)
        if found is not None:
            rows.append([preset, f"{found[0]:,.0f}", _title(found[1])])
    note = (
        f'<p class="note">Training longer than this shows some language more than {MOST_PASSES} times, which teaches'
        " little. train/main.py --dry-run says it for the mixture and the length of a run.</p>"
    )
    return note + table(["mixture", "tokens of training", "the language that runs out first"], rows)


def _samples(folder: Path, manifest: Manifest, tokenizer: Tokenizer) -> str:
    parts = []
    for language in _by_size(manifest.splits["train"]):
        reader = ShardReader(folder, "train", language)
        if not len(reader):
            continue
        number = len(reader) // 2
        parts.append(f"<h3>{escape(_title(language))}, sample {number:,} of {len(reader):,}</h3>")
        row, left = reader[number], _SAMPLE_CHARACTERS
        for part in documents_of_sample(folder, "train", language, number, manifest.max_seq_len):
            text = tokenizer.decode(row[part.first : part.end])[: max(left, 0)]
            left -= len(text)
            parts.append(
                f'<p class="from">{escape(part.repository)}:{escape(part.path)}, tokens {part.first} to {part.end}</p>'
                f"<pre>{escape(text)}</pre>"
            )
            if left <= 0:
                break
    return "".join(parts)
