"""Bar charts as SVG for a report: no script, no font, no file from elsewhere."""

from collections.abc import Mapping, Sequence
from html import escape

_ROW, _BAR, _LABELS, _WIDTH, _NUMBERS = 22, 14, 150, 560, 130
# Distinct also for the colour-blind (after Okabe and Ito, "Color Universal Design", 2008).
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#999933", "#882255", "#777777")


def bars(values: Mapping[str, float], texts: Mapping[str, str]) -> str:
    """A horizontal bar for each value, with its text behind it."""
    stacks = {label: [value] for label, value in values.items()}
    return stacked_bars(stacks, texts, ["value"])


def stacked_bars(stacks: Mapping[str, Sequence[float]], texts: Mapping[str, str], parts: Sequence[str]) -> str:
    """A horizontal bar of coloured parts for each label, all on one scale; `parts` names the colours."""
    most = max((sum(values) for values in stacks.values()), default=0) or 1
    drawn = []
    for row, (label, values) in enumerate(stacks.items()):
        top = row * _ROW
        drawn.append(f'<text x="{_LABELS - 8}" y="{top + 15}" text-anchor="end">{escape(label)}</text>')
        left = float(_LABELS)
        for part, value in enumerate(values):
            width = _WIDTH * value / most
            if value:
                hint = escape(f"{label}: {parts[part]} {value:,.0f}" if len(parts) > 1 else f"{label}: {texts[label]}")
                drawn.append(
                    f'<rect x="{left:.1f}" y="{top + 4}" width="{max(width, 0.5):.1f}" height="{_BAR}"'
                    f' fill="{COLOURS[part % len(COLOURS)]}"><title>{hint}</title></rect>'
                )
            left += width
        drawn.append(f'<text x="{left + 6:.1f}" y="{top + 15}">{escape(texts[label])}</text>')
    return _svg(drawn, _LABELS + _WIDTH + _NUMBERS, len(stacks) * _ROW + 4)


def legend(parts: Sequence[str]) -> str:
    """The colours of `stacked_bars` with their names."""
    keys = (
        f'<span class="key"><i style="background:{COLOURS[number % len(COLOURS)]}"></i>{escape(part)}</span>'
        for number, part in enumerate(parts)
    )
    return f'<p class="legend">{"".join(keys)}</p>'


def columns(counts: Sequence[int], labels: Sequence[str]) -> str:
    """A column for each count, with its label below: a histogram."""
    height, step = 120, 44
    most = max(counts, default=0) or 1
    drawn = []
    for place, (count, label) in enumerate(zip(counts, labels, strict=True)):
        tall = height * count / most
        left, middle = place * step + 4, place * step + 23
        drawn.append(
            f'<rect x="{left}" y="{16 + height - tall:.1f}" width="{step - 6}" height="{tall:.1f}"'
            f' fill="{COLOURS[0]}"><title>{escape(label)}: {count:,}</title></rect>'
            f'<text x="{middle}" y="{12 + height - tall:.1f}" text-anchor="middle" class="small">'
            f"{_short(count)}</text>"
            f'<text x="{middle}" y="{height + 32}" text-anchor="middle" class="small">{escape(label)}</text>'
        )
    return _svg(drawn, len(counts) * step + 8, height + 40)


def _short(count: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= 10 * size:
            return f"{count / size:.0f}{unit}"
    return f"{count}" if count else ""


def _svg(parts: list[str], width: int, height: int) -> str:
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">{"".join(parts)}</svg>'
