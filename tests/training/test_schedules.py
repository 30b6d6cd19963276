"""The learning rate's shape, as promises that hold for every setting."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yuwen.training import ScheduleConfig

amount = st.one_of(st.floats(0, 0.99), st.integers(0, 500).map(float))
schedules = st.one_of(
    st.builds(lambda warmup: ScheduleConfig(name="constant", warmup=warmup), amount),
    st.builds(
        lambda name, warmup, final: ScheduleConfig(name=name, warmup=warmup, final=final),
        st.sampled_from(["linear", "cosine"]), amount, st.floats(0, 1),
    ),
    st.builds(
        lambda warmup, cooldown, final: ScheduleConfig(name="warmdown", warmup=warmup, cooldown=cooldown, final=final),
        amount, amount, st.floats(0, 1),
    ),
)  # fmt: skip


@given(schedules, st.integers(1, 400))
def test_bounded_and_of_one_rise_and_one_fall(schedule: ScheduleConfig, total: int) -> None:
    factors = [schedule.factor(step, total) for step in range(total + 1)]
    assert all(0 <= factor <= 1 for factor in factors)
    warmup = round(schedule.warmup * total) if schedule.warmup < 1 else round(schedule.warmup)
    rise, fall = factors[: min(warmup, total + 1)], factors[warmup:]
    assert all(one < other for one, other in pairwise(rise))
    assert all(one >= other - 1e-12 for one, other in pairwise(fall))
    assert all(factor > 0 for factor in factors[:-1]) or schedule.final == 0
    assert all(factor >= schedule.final - 1e-12 for factor in fall)


@given(schedules, st.integers(1, 400))
def test_ends_at_final(schedule: ScheduleConfig, total: int) -> None:
    warmup = round(schedule.warmup * total) if schedule.warmup < 1 else round(schedule.warmup)
    for step in (total, total + 1, 10 * total):
        if total > warmup:  # or nothing is left to fall in
            expected = 1.0 if schedule.name == "constant" else schedule.final
            assert schedule.factor(step, total) == pytest.approx(expected)


def test_a_fall_begins_where_the_rise_has_ended() -> None:
    long = ScheduleConfig(name="warmdown", warmup=0.9, cooldown=0.5)
    factors = [long.factor(step, 100) for step in range(101)]
    assert max(abs(one - other) for one, other in pairwise(factors)) < 0.11 and factors[90] == 1


def test_by_hand() -> None:
    linear = ScheduleConfig(name="linear", warmup=2, final=0.5)
    assert [linear.factor(step, 6) for step in range(7)] == pytest.approx([1 / 3, 2 / 3, 1, 0.875, 0.75, 0.625, 0.5])
    warmdown = ScheduleConfig(name="warmdown", warmup=0, cooldown=0.5)
    assert [warmdown.factor(step, 4) for step in range(5)] == pytest.approx([1, 1, 1, 0.5, 0])
    cosine = ScheduleConfig(name="cosine", warmup=0)
    assert [cosine.factor(step, 4) for step in range(5)] == pytest.approx([1, 0.853553, 0.5, 0.146447, 0], abs=1e-6)
