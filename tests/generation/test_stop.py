"""Stop strings: the same text however it is cut, nothing of a stop shown, nothing else held back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from yuwen.generation.stop import StopHolder

TEXT = st.text("ab山", max_size=30)
STOPS = st.lists(st.text("ab山", min_size=1, max_size=4), max_size=3)


def until_stop(text: str, stops: list[str]) -> tuple[str, bool]:
    """Plainly: of the stop strings the one complete first, of those the longest."""
    for end in range(1, len(text) + 1):
        begun = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if begun:
            return text[: min(begun)], True
    return text, False


@given(st.lists(TEXT, max_size=8), STOPS)
def test_the_cutting_of_the_text_changes_nothing(pieces: list[str], stops: list[str]) -> None:
    holder = StopHolder(stops)
    shown = "".join(holder.feed(piece) for piece in pieces)
    stopped = holder.stopped
    assert (shown + holder.flush(), stopped) == until_stop("".join(pieces), stops)


@given(st.lists(TEXT, max_size=8), STOPS)
def test_only_what_may_become_a_stop_is_held(pieces: list[str], stops: list[str]) -> None:
    holder, fed, shown = StopHolder(stops), "", ""
    for piece in pieces:
        fed += piece
        shown += holder.feed(piece)
        if holder.stopped:
            return
        held = fed[len(shown) :]
        assert fed.startswith(shown) and (not held or any(stop.startswith(held) and stop != held for stop in stops))
        longest = max((n for stop in stops for n in range(len(stop)) if fed.endswith(stop[:n])), default=0)
        assert len(held) == longest


def test_without_stop_strings_everything_passes_at_once() -> None:
    holder = StopHolder([])
    assert holder.feed("abc") == "abc" and holder.flush() == ""
