"""What a model says must not move a terminal's cursor, set its colours or write to its clipboard."""

from __future__ import annotations

import sys

_SIGNS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {
    code: 0xFFFD for code in range(0x7F, 0xA0)
}


def signs() -> dict[int, int]:
    """For `str.translate`: control characters become signs where stdout is a terminal, and stay elsewhere."""
    return _SIGNS if sys.stdout.isatty() else {}
