"""A chart of differences: a point and its interval on a line each, with no difference in the middle."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from codelm.html.charts import COLOURS

_ROW, _WIDTH, _SIDE, _TOP = 38, 440, 20, 4
_BETTER, _WORSE, _NEITHER = COLOURS[2], COLOURS[4], COLOURS[8]


@dataclass(frozen=True)
class Interval:
    """A difference with its interval; `sure` is 1 for the better, -1 for the worse, 0 where it may be chance."""

    label: str
    value: float
    low: float
    high: float
    sure: int
    text: str


def intervals(rows: Sequence[Interval], unit: str) -> str:
    """The rows on one scale; nothing where there are none.

    Args:
        unit: what the axis counts, such as "points".
    """
    if not rows:
        return ""
    reach = max(max(abs(row.low), abs(row.high), abs(row.value)) for row in rows) or 1.0
    middle, scale = _SIDE + _WIDTH / 2, _WIDTH / 2 / reach
    bottom = _TOP + _ROW * len(rows)
    step = _round_step(reach)
    drawn = []
    for number in range(-int(reach / step), int(reach / step) + 1):
        across = middle + scale * step * number
        shown = f"{step * number:+.3g}".replace("-", "−") if number else "0"
        drawn.append(
            f'<line x1="{across:.1f}" y1="{_TOP}" x2="{across:.1f}" y2="{bottom}"'
            f' class="{"axis" if number else "zero"}"></line>'
            f'<text x="{across:.1f}" y="{bottom + 14}" text-anchor="middle" class="small">{shown}</text>'
        )
    for place, row in enumerate(rows):
        down = _TOP + _ROW * (place + 1) - 10
        colour = (_NEITHER, _BETTER, _WORSE)[row.sure]
        left, right, at = (middle + scale * value for value in (row.low, row.high, row.value))
        drawn.append(
            f'<text x="0" y="{down - 12}" class="on">{escape(row.label)}</text>'
            f"<g><title>{escape(row.text)}</title>"
            f'<line x1="{left:.1f}" y1="{down}" x2="{max(right, left + 1):.1f}" y2="{down}" stroke="{colour}"'
            ' stroke-width="3"></line>'
            f'<circle cx="{at:.1f}" cy="{down}" r="5.5" fill="{colour}"></circle></g>'
        )
    drawn.append(f'<text x="{middle:.1f}" y="{bottom + 30}" text-anchor="middle" class="small">{escape(unit)}</text>')
    width, height = _WIDTH + 2 * _SIDE, bottom + 36
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">{"".join(drawn)}</svg>'


def _round_step(reach: float) -> float:
    size = 10.0**-12
    while size * 10 <= reach:
        size *= 10
    return next(step for step in (size / 2, size, 2 * size, 5 * size) if reach / step <= 4)
