"""A comparison told as blocks: the verdict, the user's code, everything else, examples, how it was measured."""

from collections.abc import Iterable, Iterator, Sequence

from codelm.eval.compare.blocks import Block, Chart, Column, Heading, SideBySide, Table, Text
from codelm.eval.compare.changes import REPLAY, Change
from codelm.eval.compare.comparison import Comparison
from codelm.eval.compare.examples import Example, deciding_metric
from codelm.eval.compare.words import difference_text, explain, interval_text, metric_name, value_text
from codelm.eval.scoring import BITS_PER_BYTE, GOLD
from codelm.html.intervals import Interval, intervals

_VERDICTS = {"better": "better", "worse": "worse", "unchanged": "may be chance", "too few": "too few to tell"}
_READING = (
    "Every line compares the same problems. The 95 % interval holds the true difference in 95 of 100 such"
    " measurements; where zero is in it, chance alone may have made the difference. p is how often chance alone makes"
    " one as large{holm}. Points are percentage points; a group holds problems of one function or file"
)
_HOLM = " (raised after Holm, since several systems are compared with one)"


def title_of(comparison: Comparison) -> str:
    """What the page is called."""
    first, *others = (system.name for system in comparison.systems)
    return f"{', '.join(others)} compared with {first}"


def tell(comparison: Comparison) -> list[Block]:
    """The whole report."""
    names = [system.name for system in comparison.systems[1:]]
    own = [change for change in comparison.changes if change.own]
    elsewhere = [change for change in comparison.changes if not change.own]
    blocks: list[Block] = [Text(sentence, "verdict") for sentence in comparison.verdicts()]
    if unseen := _not_looked_at(comparison):
        blocks.append(Text(f"Not looked at, which does not mean clean: {'; '.join(unseen)}.", "note"))
    metrics = dict.fromkeys(change.metric for change in comparison.changes)
    explained = dict.fromkeys(filter(None, map(explain, metrics)))
    blocks.append(
        Text(". ".join([_READING.format(holm=_HOLM if names[1:] else ""), *map(_capital, explained)]) + ".", "note")
    )
    if own:
        blocks += [Heading("On your code"), *_changes(own, names)]
    if elsewhere:
        heading = "Elsewhere: what it may have forgotten" if own else "Scores"
        blocks += [Heading(heading), *_changes(elsewhere, names)]
    if comparison.slices:
        blocks += [Heading("By kind of gap", small=True), _table(comparison.slices, names)]
    blocks += _examples(comparison, names)
    for appendix in comparison.appendices:
        blocks += appendix.blocks
    return [*blocks, *_method(comparison)]


def _not_looked_at(comparison: Comparison) -> list[str]:
    """What a reader may take for clean because the page is silent on it."""
    audited = {appendix.key for appendix in comparison.appendices}
    replayed = any(change.benchmark.startswith(REPLAY) for change in comparison.changes)
    return [
        *(["whether a model says its training data by heart (--audit)"] if "memorisation" not in audited else []),
        *(["whether it was trained on these problems (--audit)"] if "contamination" not in audited else []),
        *(["what it forgot of the texts that the first one knew (--replay)"] if not replayed else []),
    ]


def _changes(changes: Sequence[Change], names: Sequence[str]) -> Iterator[Block]:
    drawn = [change for change in changes if change.difference.low is not None]
    bits = [change for change in drawn if change.metric in (GOLD, BITS_PER_BYTE)]
    shares = [change for change in drawn if change.is_share]
    for charted, unit in ((shares, "points; better is to the right"), (bits, "bits per byte; better is to the left")):
        yield Chart(intervals([_interval(change, names) for change in charted], unit))
    yield _table(changes, names)


def _table(changes: Sequence[Change], names: Sequence[str]) -> Table:
    header = ("", "", "from", "to", "difference", "95 % interval", "p", "problems")
    return Table(header, tuple(tuple(map(_unbroken, _row(change, names))) for change in changes))


def _unbroken(cell: str) -> str:
    """With spaces at which no line ends, in what is short."""
    return cell.replace(" ", "\N{NO-BREAK SPACE}") if len(cell) < 20 else cell


def _interval(change: Change, names: Sequence[str]) -> Interval:
    low, high = change.difference.low, change.difference.high
    assert low is not None
    assert high is not None
    scale = 100 if change.is_share else 1
    sure = {"better": 1, "worse": -1}.get(change.verdict, 0)
    text = f"{_label(change, names)}: {difference_text(change, change.difference.value)} ({interval_text(change)})"
    return Interval(
        _label(change, names), change.difference.value * scale, low * scale, high * scale, sure, text
    )  # fmt: skip


def _label(change: Change, names: Sequence[str]) -> str:
    system = f" ({change.system})" if names[1:] else ""
    kind = f", {change.kind}" if change.kind else ""
    return f"{change.title}{kind}: {metric_name(change.metric)}{system}"


def _row(change: Change, names: Sequence[str]) -> tuple[str, ...]:
    found = change.difference
    return (
        _label(change, names),
        _VERDICTS[change.verdict],
        value_text(change, found.first),
        value_text(change, found.second),
        difference_text(change, found.value) + (" points" if change.is_share else ""),
        interval_text(change) or "none",
        f"{change.p:.3f}" if change.p >= 0.001 else "< 0.001",
        f"{found.n:,}" + (f" in {found.clusters:,} groups" if found.clusters < found.n else ""),
    )


def _examples(comparison: Comparison, names: Sequence[str]) -> Iterator[Block]:
    if any(ids["gained"] or ids["lost"] for benchmarks in comparison.moved.values() for ids in benchmarks.values()):
        yield Heading("Gained and lost")
    for system in names:
        for name, ids in comparison.moved[system].items():
            if not ids["gained"] and not ids["lost"]:
                continue
            of = f"{comparison.titles[name]}, {system}" if names[1:] else comparison.titles[name]
            examples = comparison.examples[system][name]
            shown = f"; {len(examples)} of them below" if examples else ""
            first = comparison.systems[0].name
            pair = [one.benchmarks[name] for one in comparison.systems if one.name in (first, system)]
            metric = deciding_metric(*pair)
            by = "" if metric == "pass@1" else f" by {metric_name(metric)}"
            yield Heading(f"{of}: {len(ids['gained'])} gained, {len(ids['lost'])} lost{by}{shown}", small=True)
            yield from (_side_by_side(example, first, system) for example in examples)


def _side_by_side(example: Example, first: str, second: str) -> SideBySide:
    columns = (
        Column(first, not example.gained, example.first, example.verdicts[0]),
        Column(second, example.gained, example.second, example.verdicts[1]),
    )
    word = "gained" if example.gained else "lost"
    return SideBySide(f"{word}: {example.task_id}", example.prompt, columns, example.suffix)


def _method(comparison: Comparison) -> Iterator[Block]:
    yield Heading("How it was measured")
    rows = [(system.name, ", ".join(system.checkpoints) or "?") for system in comparison.systems]
    yield Table(("", "checkpoint"), tuple(rows))
    rows = []
    for name, one in comparison.systems[0].benchmarks.items():
        if name in comparison.titles:
            settings = one.settings
            keys = ("num_samples", "temperature", "top_p", "max_new_tokens", "sandbox")
            said = ", ".join(f"{key} {settings[key]}" for key in keys if settings.get(key) is not None)
            rows.append((one.title, said, one.profile or ""))
    yield Table(("", "settings", "post-processing"), tuple(rows))
    methods = _listed(f"{change.difference.interval}; {change.difference.test}" for change in comparison.changes)
    yield Text(f"Intervals and tests: {methods}.", "note")
    if comparison.notes:
        yield Text("What differs between the evaluations and does not stop a comparison:", "note")
        yield from (Text(note, "note") for note in comparison.notes)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _listed(methods: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(methods))
