"""Text up to a stop string, released as soon as it is certain."""

from __future__ import annotations

from collections.abc import Sequence


class StopHolder:
    """Lets text through until a stop string is complete, however the text is cut into pieces.

    Of several stop strings the one that is complete first counts, and of those the longest. What might still become a
    stop string is held back, and nothing else.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = tuple(stops)
        self.stopped = False
        self._held = ""

    def feed(self, text: str) -> str:
        """What of the text so far can be shown now."""
        if self.stopped:
            return ""
        text = self._held + text
        found = [(at + len(stop), at) for stop in self.stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)[1]]
        shown = len(text) - max((_begun(text, stop) for stop in self.stops), default=0)
        self._held = text[shown:]
        return text[:shown]

    def flush(self) -> str:
        """What was held back, once no more text comes: it has not become a stop string."""
        held, self._held = self._held, ""
        return held


def _begun(text: str, stop: str) -> int:
    """Length of the longest proper beginning of `stop` with which the text ends."""
    longest = min(len(stop) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
