"""Charts as SVG: bars, histograms, curves."""

import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

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


_PLOT_WIDTH, _PLOT_HEIGHT, _LEFT, _BELOW = 430, 190, 56, 24
_MOST_POINTS = 400


def curves(series: Mapping[str, Points], logarithmic: bool = False) -> str:
    """A line for each series of (x, y) over common axes; many points are averaged to a few hundred.

    Args:
        logarithmic: the y axis; points that are not above 0 are left out.
    """
    kept = {
        name: _thinned([(x, y) for x, y in points if math.isfinite(y) and (y > 0 or not logarithmic)])
        for name, points in series.items()
    }
    kept = {name: points for name, points in kept.items() if points}
    if not kept:
        return ""
    xs = [x for points in kept.values() for x, _ in points]
    ys = [math.log10(y) if logarithmic else y for points in kept.values() for _, y in points]
    left, right = min(xs), max(max(xs), min(xs) + 1e-9)
    low, high = _padded(min(ys), max(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        y = math.log10(y) if logarithmic else y
        across = _LEFT + _PLOT_WIDTH * (x - left) / (right - left)
        return across, 10 + _PLOT_HEIGHT * (high - y) / (high - low)

    drawn = [*_grid(low, high, logarithmic), *_marks(left, right)]
    for number, (name, points) in enumerate(kept.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{across:.1f},{down:.1f}" for across, down in (place(x, y) for x, y in points))
        hint = escape(f"{name}: {_figure(points[0][1])} → {_figure(points[-1][1])}")
        drawn.append(f'<polyline points="{path}" stroke="{colour}"><title>{hint}</title></polyline>')
        if len(points) == 1:
            across, down = place(*points[0])
            drawn.append(f'<rect x="{across - 2:.1f}" y="{down - 2:.1f}" width="4" height="4" fill="{colour}"></rect>')
    chart = _svg(drawn, _LEFT + _PLOT_WIDTH + 12, _PLOT_HEIGHT + 10 + _BELOW)
    return chart + (legend([*kept]) if len(kept) > 1 else "")


def _thinned(points: Points) -> list[tuple[float, float]]:
    """Means of as many neighbours as it takes."""
    size = -(-len(points) // _MOST_POINTS)
    if size <= 1:
        return list(points)
    found = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        found.append((part[-1][0], sum(y for _, y in part) / len(part)))
    return found


def _padded(low: float, high: float) -> tuple[float, float]:
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


def _grid(low: float, high: float, logarithmic: bool) -> list[str]:
    drawn = []
    steps = _steps(low, high, 4)
    apart = steps[1] - steps[0] if len(steps) > 1 and not logarithmic else 0.0
    for value in steps:
        down = 10 + _PLOT_HEIGHT * (high - value) / (high - low)
        text = _figure(10**value if logarithmic else value, apart)
        drawn.append(
            f'<line x1="{_LEFT}" y1="{down:.1f}" x2="{_LEFT + _PLOT_WIDTH}" y2="{down:.1f}" class="axis"></line>'
            f'<text x="{_LEFT - 6}" y="{down + 4:.1f}" text-anchor="end" class="small">{text}</text>'
        )
    return drawn


def _marks(left: float, right: float) -> list[str]:
    down = 10 + _PLOT_HEIGHT + 16
    return [
        f'<text x="{_LEFT + _PLOT_WIDTH * (value - left) / (right - left):.1f}" y="{down}" text-anchor="middle"'
        f' class="small">{_figure(value)}</text>'
        for value in _steps(left, right, 5)
    ]


def _steps(low: float, high: float, about: int) -> list[float]:
    """Round numbers between two, some four to eight of them."""
    raw = (high - low) / about
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _figure(value: float, apart: float = 0.0) -> str:
    """A number in few characters, with as many digits as tell it from those `apart` from it."""
    size = abs(value)
    digits = max(3, math.ceil(math.log10(size / apart)) + 1) if apart and size > apart else 3
    for unit, of in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if size >= of:
            return f"{value / of:.{digits}g}{unit}"
    return f"{value:.{digits}g}"


def _short(count: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= 10 * size:
            return f"{count / size:.0f}{unit}"
    return f"{count}" if count else ""


def _svg(parts: list[str], width: int, height: int) -> str:
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">{"".join(parts)}</svg>'
