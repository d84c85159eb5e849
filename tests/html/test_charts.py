"""Curves of a report: on common axes, thinned, and never wrong about what is not finite."""

import math
import re

import pytest

from codelm.html.charts import curves


def lines(chart: str) -> list[list[tuple[float, float]]]:
    found = re.findall(r'<polyline points="([^"]*)"', chart)
    return [[tuple(map(float, point.split(","))) for point in path.split()] for path in found]  # pyright: ignore


def test_points_stand_in_order_and_to_scale() -> None:
    (path,) = lines(curves({"loss": [(0, 4.0), (10, 3.0), (20, 2.0)]}))
    assert [x for x, _ in path] == pytest.approx([path[0][0], (path[0][0] + path[2][0]) / 2, path[2][0]], abs=0.1)
    assert path[1][1] == pytest.approx((path[0][1] + path[2][1]) / 2, abs=0.1)
    assert path[0][1] < path[2][1]  # downwards in SVG


def test_several_series_share_their_axes_and_have_a_legend() -> None:
    chart = curves({"a": [(0, 1.0), (1, 2.0)], "b": [(0, 2.0), (1, 2.0)]})
    (first, second) = lines(chart)
    assert first[1][1] == second[0][1]
    assert chart.count("</i>") == 2


def test_a_logarithmic_axis_gives_every_factor_the_same_room() -> None:
    (path,) = lines(curves({"norm": [(0, 0.01), (1, 0.1), (2, 1.0), (3, 0.0)]}, logarithmic=True))
    assert len(path) == 3
    assert path[0][1] - path[1][1] == pytest.approx(path[1][1] - path[2][1], abs=0.2)


def test_many_points_are_averaged() -> None:
    noisy = {"loss": [(x, 1.0 + x % 2) for x in range(8_000)], "bounds": [(0, 0.0), (7_999, 3.0)]}
    path, _ = lines(curves(noisy))
    assert len(path) == 400
    assert {y for _, y in path} == {path[0][1]}


@pytest.mark.parametrize("points", [[], [(0, math.nan)], [(0, math.inf)]], ids=["none", "nan", "inf"])
def test_nothing_to_draw_is_nothing(points: list[tuple[float, float]]) -> None:
    assert curves({"loss": points}) == ""


@pytest.mark.parametrize("points", [[(5, 1.0)], [(0, 0.0), (1, 0.0)]], ids=["one point", "all zero"])
def test_a_flat_or_single_point_series_is_drawn(points: list[tuple[float, float]]) -> None:
    assert len(lines(curves({"loss": points}))) == 1


def test_names_are_escaped() -> None:
    chart = curves({"<script>": [(0, 1.0), (1, 2.0)], "b": [(0, 1.0)]})
    assert "<script>" not in chart


def test_marks_on_an_axis_are_told_apart() -> None:
    chart = curves({"GB": [(0, 1.0201), (1, 1.0239)]})
    marks = re.findall(r'text-anchor="end" class="small">([^<]*)<', chart)
    assert len(set(marks)) == len(marks) >= 3
