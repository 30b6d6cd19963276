"""The one exception a user ever reads."""

from __future__ import annotations


class UserError(Exception):
    """A mistake the user can mend: one line that says what is wrong, where, and what to do.

    The command line prints it on stderr and exits with status 2; a library caller catches it like any exception.
    """

    def __init__(self, message: str) -> None:
        # what it quotes (a name in a damaged file) may hold line breaks of its own
        super().__init__(" ".join(message.splitlines()))
