"""Small line charts as inline SVG: no library, no script needed to read them, colours from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 400, 280  # user units; drawn near this size on a desk, somewhat smaller on a phone
LEFT, RIGHT, TOP, BOTTOM = 44, 14, 18, 50
POINTS = 240  # more than a screen resolves


@dataclass(frozen=True)
class Point:
    """One measurement of a run: at which step, after how many seconds, what value."""

    step: float
    seconds: float
    value: float


def line_chart(points: Sequence[Point], references: Sequence[tuple[str, float]] = ()) -> dict[str, Any]:
    """The geometry of a line of values against steps, which `assets/report.html.j2` draws.

    The seconds stand under the steps; `references` are (label, value) of horizontal lines to compare with. Long
    series are averaged down to 240 points. Raises ValueError for an empty series.
    """
    if not points:
        raise ValueError("a chart needs at least one point")
    shown = _averaged(points)
    first, last = min(0.0, shown[0].step), max(shown[-1].step, 1.0)
    # The first twentieth may leave the picture: a fall from 9 to 4 would flatten all that follows.
    settled = [point.value for point in shown if point.step >= first + (last - first) / 20] or [shown[-1].value]
    levels = _ticks(*_room(settled + [value for _, value in references]))
    y = _upwards(levels)

    def x(step: float) -> float:
        return round(LEFT + (step - first) / (last - first) * (WIDTH - LEFT - RIGHT), 1)

    steps = [step for step in _ticks(first, last) if first <= step <= last]
    return {
        **_frame(levels),
        "steps": [(x(step), _number(step), clock(_seconds_at(shown, step))) for step in steps],
        "references": [(y(value), f"{label} {value:.3f}") for label, value in references],
        "line": " ".join(f"{x(point.step)},{y(point.value)}" for point in shown),
        "end": (x(shown[-1].step), y(shown[-1].value)),
        # What the page's script shows beside the pointer.
        "hover": [
            [
                x(p.step),
                min(max(y(p.value), TOP), HEIGHT - BOTTOM),
                f"{p.value:.3f}",
                f"{p.step:,.0f}",
                clock(p.seconds),
            ]
            for p in shown
        ],
    }


def curves(series: Mapping[str, Sequence[tuple[float, float]]], height: float = 1.5) -> dict[str, Any]:
    """The geometry of several lines in one picture, which `assets/compare.html.j2` draws.

    Each series is (amount, value) pairs; amounts lie on a logarithmic scale, those of zero are left out. Values more
    than `height` above the lowest leave the picture. A single point beside curves that do not reach it, a count of one
    second beside training for minutes, is a level across the picture. Raises ValueError where no series has a point.
    """
    shown = {name: sorted((x, y) for x, y in points if x > 0) for name, points in series.items()}
    shown = {name: points for name, points in shown.items() if points}
    if not shown:
        raise ValueError("a chart needs at least one point")
    curved = [points for points in shown.values() if len(points) > 1]
    amounts = [x for points in curved or shown.values() for x, _ in points]
    values = [y for points in shown.values() for _, y in points]
    first, last = math.log(min(amounts)), math.log(max(amounts))
    last = last if last > first else first + 1.0
    levels = _ticks(*_room([value for value in values if value <= min(values) + height]))
    y = _upwards(levels)

    def x(amount: float) -> float:
        return round(LEFT + (math.log(amount) - first) / (last - first) * (WIDTH - LEFT - RIGHT), 1)

    inside = {name: points for name, points in shown.items() if min(amounts) <= points[0][0] <= max(amounts)}
    return {
        **_frame(levels),
        "amounts": [(x(amount), amount) for amount in _decades(min(amounts), max(amounts))],
        "lines": {name: [(x(at), y(value)) for at, value in points] for name, points in inside.items()},
        "flat": {name: y(points[0][1]) for name, points in shown.items() if name not in inside},
    }


def _upwards(levels: Sequence[float]) -> Callable[[float], float]:
    """Where a value stands between the lowest level and the highest, counted from the top of the picture."""
    bottom, top = levels[0], levels[-1]
    return lambda value: round(TOP + (top - value) / (top - bottom) * (HEIGHT - TOP - BOTTOM), 1)


def _frame(levels: Sequence[float]) -> dict[str, Any]:
    """What stands around the lines: the edges of the picture, and its levels with their numbers."""
    y = _upwards(levels)
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "ceiling": TOP,
        "floor": HEIGHT - BOTTOM,
        "levels": [(y(level), _number(level)) for level in levels],
    }


def clock(seconds: float) -> str:
    """Seconds in the shortest form that still tells: 42 s, 3.5 min, 2.1 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f}".removesuffix(".0") + " min"
    return f"{seconds / 3600:.1f}".removesuffix(".0") + " h"


def _averaged(points: Sequence[Point]) -> list[Point]:
    """At most POINTS + 2 points: neighbours averaged, the first and the last measurement kept as they are."""
    ordered = sorted(points, key=lambda point: point.step)
    size = math.ceil(len(ordered) / POINTS)
    if size == 1:
        return ordered
    groups = [ordered[start : start + size] for start in range(1, len(ordered) - 1, size)]
    return [ordered[0], *map(_mean, groups), ordered[-1]]


def _mean(group: Sequence[Point]) -> Point:
    count = len(group)
    return Point(
        sum(point.step for point in group) / count,
        sum(point.seconds for point in group) / count,
        sum(point.value for point in group) / count,
    )


def _room(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * 0.04 or abs(high) * 0.05 or 1.0
    return low - margin, high + margin


def _ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that enclose [low, high], some `about` of them."""
    span = high - low
    unit = 10 ** math.floor(math.log10(span / about))
    unit *= next(factor for factor in (1, 2, 2.5, 5, 10) if span / (unit * factor) <= about)
    return [index * unit for index in range(math.floor(low / unit + 1e-9), math.ceil(high / unit - 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Round numbers within [low, high] for a logarithmic scale: powers of ten, with 2 and 5 between where few fit."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5)):
        ticks = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(ticks) >= 3:
            return ticks
    return ticks or [low, high]


def _seconds_at(points: Sequence[Point], step: float) -> float:
    """Seconds at a step, between its neighbours; nothing had passed at step zero."""
    before = Point(0, 0, 0)
    for point in points:
        if point.step >= step:
            share = (step - before.step) / (point.step - before.step) if point.step > before.step else 1
            return before.seconds + (point.seconds - before.seconds) * share
        before = point
    return points[-1].seconds


def _number(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:.4g}"
