"""Changes in plain words: for whoever decides, not for whoever measured."""

from collections.abc import Callable, Sequence

from codelm.eval.compare.changes import Change
from codelm.eval.scoring import BITS_PER_BYTE, EDIT_SIMILARITY, EXACT_MATCH, GOLD, IDENTIFIER_MATCH, PARSES

_NAMES = {
    GOLD: "bits per byte of the reference solutions",
    BITS_PER_BYTE: "bits per byte",
    EXACT_MATCH: "exact matches",
    IDENTIFIER_MATCH: "all names right",
    PARSES: "files that still parse",
}
_EXPLAINED = {
    "pass@1": "pass@1: how often the first completion of a problem passes all of its tests",
    "pass@": "pass@k: how often at least one of k completions passes all tests",
    GOLD: "bits per byte of the reference solutions: how hard the right solution is for the model to predict; less is"
    " better, and it moves long before pass@1 does",
    BITS_PER_BYTE: "bits per byte: how hard text is for the model to predict; less is better",
    EDIT_SIMILARITY: "edit similarity: how much of a completion is, character by character, what stood there",
    EXACT_MATCH: "exact matches: how often a completion is exactly what stood there",
}
_MOST_NAMED = 3


def metric_name(metric: str) -> str:
    """A metric as it is called on the page."""
    return _NAMES.get(metric, metric.replace("_", " "))


def value_text(change: Change, value: float) -> str:
    """A value with its unit: shares in percent."""
    return f"{100 * value:.1f} %" if change.is_share else f"{value:.3f}"


def difference_text(change: Change, value: float) -> str:
    """A difference with its sign and unit: those of shares in points."""
    text = f"{100 * value:+.1f}" if change.is_share else f"{value:+.3f}"
    return text.replace("-", "−")


def interval_text(change: Change) -> str:
    """The 95 % interval of the difference; empty where there is none."""
    low, high = change.difference.low, change.difference.high
    if low is None or high is None:
        return ""
    return f"{difference_text(change, low)} to {difference_text(change, high)}"


def change_text(change: Change) -> str:
    """A change that is sure, as the part of a sentence."""
    found, unit = change.difference, " points" if change.is_share else ""
    moved = "rose" if found.value > 0 else "fell"
    return (
        f"{metric_name(change.metric)} {moved} from {value_text(change, found.first)} to"
        f" {value_text(change, found.second)} ({difference_text(change, found.value)}{unit}, 95 % interval"
        f" {interval_text(change)}{': worse' if change.verdict == 'worse' else ''})"
    )


def unsure_text(change: Change) -> str:
    """A change that may be chance, as the part of a sentence."""
    found, unit = change.difference, " points" if change.is_share else ""
    interval = interval_text(change)
    doubt = f", 95 % interval {interval}" if interval else ""
    few = (
        f"; {found.clusters} independent groups of problems are too few to tell" if change.verdict == "too few" else ""
    )
    return f"{metric_name(change.metric)} ({difference_text(change, found.value)}{unit}{doubt}{few})"


def verdict_sentence(changes: Sequence[Change], system: str | None = None) -> str:
    """One sentence: what changed on the user's own code, and elsewhere.

    Args:
        changes: of one system from the first.
        system: its name, where there are several.
    """
    own, elsewhere = [c for c in changes if c.own], [c for c in changes if not c.own]
    begin = f"{system}: " if system else ""
    if not own:
        return f"{begin}{_part(elsewhere, '')}."
    several = len({change.benchmark for change in own}) > 1
    last = _part(elsewhere, "elsewhere: ") if elsewhere else "nothing else was measured"
    return f"{begin}{_part(own, 'On your code: ', several)}; {last}."


def explain(metric: str) -> str | None:
    """A metric in plain words; None where its name must do."""
    return next((text for begin, text in _EXPLAINED.items() if metric.startswith(begin)), None)


def _part(changes: Sequence[Change], where: str, named: bool = True) -> str:
    sure = [change for change in changes if change.verdict in ("better", "worse")]
    rest = [change for change in changes if change not in sure]
    if not sure:
        return f"{where}no measurable change in {_listed(rest, named, unsure_text)}"
    text = f"{where}{_listed(sure, named, change_text)}"
    rest = [change for change in rest if change.metric == "pass@1"]
    return f"{text}; no measurable change in {_listed(rest, named, unsure_text)}" if rest else text


def _listed(changes: Sequence[Change], named: bool, say: Callable[[Change], str]) -> str:
    ordered = sorted(changes, key=lambda change: change.metric != "pass@1")
    told = [f"{change.title + ': ' if named else ''}{say(change)}" for change in ordered[:_MOST_NAMED]]
    more = len(ordered) - len(told)
    return "; ".join(told) + (f"; and {more} more below" if more else "")
