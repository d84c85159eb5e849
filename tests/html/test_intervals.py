"""Differences with their intervals, to scale around zero."""

import re

import pytest

from codelm.html.intervals import Interval, intervals


def test_points_and_intervals_stand_to_scale_around_zero() -> None:
    rows = [Interval("a <b>", 4.0, 2.0, 6.0, 1, "up"), Interval("c", -1.0, -3.0, 1.0, 0, "unsure")]
    chart = intervals(rows, "points")
    (first, second) = (float(x) for x in re.findall(r'<circle cx="([\d.]+)"', chart))
    zero = float(re.findall(r'x1="([\d.]+)"[^>]*class="zero"', chart)[0])
    assert first - zero == pytest.approx(4 * (zero - second), abs=0.5)
    spans = [
        (float(a), float(b)) for a, b in re.findall(r'x1="([\d.]+)" y1="[\d.]+" x2="([\d.]+)"[^>]*stroke-w', chart)
    ]
    assert [round((b - a) / (first - zero), 2) for a, b in spans] == [1.0, 1.0]
    assert "a &lt;b&gt;" in chart
    assert "+6" in chart
    assert "−6" in chart


@pytest.mark.parametrize("reach", [1e-6, 0.003, 1.0, 87.0])
def test_a_scale_of_any_size_has_a_few_round_marks(reach: float) -> None:
    chart = intervals([Interval("a", 0.0, -reach, reach, 0, "")], "points")
    assert 3 <= chart.count('class="axis"') + chart.count('class="zero"') <= 9


def test_no_difference_at_all_is_drawn_too() -> None:
    assert "<circle" in intervals([Interval("a", 0.0, 0.0, 0.0, 0, "")], "points")
    assert intervals([], "points") == ""
