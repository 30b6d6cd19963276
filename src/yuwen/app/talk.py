"""A conversation at a terminal, or over pipes: lines in, answers out as they come, commands that begin with a slash."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from yuwen.app import transcript
from yuwen.app.chat import Chat, Turn
from yuwen.app.machine.terminal import signs
from yuwen.app.transcript import Transcript
from yuwen.config import nearest
from yuwen.disk import path_of
from yuwen.errors import UserError

COMMANDS = {
    "help": ("", "show these lines"),
    "save": ("FILE", "write the conversation to a new file"),
    "load": ("FILE", "go on from a conversation in a file"),
    "system": ("TEXT", "set the system prompt; without TEXT, show it"),
    "retry": ("", "answer the last message anew"),
    "undo": ("", "take the last message and its answer back"),
    "clear": ("", "begin anew; the system prompt stays"),
    "quit": ("", "leave (so does Ctrl-D)"),
}
PROMPT = "> "


class Talk:
    """Reads messages, answers them, obeys commands, until the input ends.

    With `emit` each turn is handed to it as one object and nothing else goes to stdout; without, the answers are
    printed as they come. Everything else goes to stderr.
    """

    def __init__(
        self,
        chat: Chat,
        kept: Transcript | None = None,
        *,
        emit: Callable[[Mapping[str, Any]], None] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.chat, self.kept, self.emit, self.about = chat, kept, emit, about or {}
        self.terminal = sys.stdin.isatty()
        self._translated = signs()
        self._saved: set[Path] = set()  # files this conversation has written, which it may write again
        self._forgotten = chat.forgotten
        self._running = True

    def run(self) -> None:
        """Until the end of input, /quit, or a second Ctrl-C in a row that comes at the prompt.

        At a terminal a mistake is one line, and the conversation goes on; in a pipe it is a UserError that names the
        line, and a Ctrl-C ends the program after what was said is kept.
        """
        if self.terminal:
            _note("/help lists the commands, Ctrl-C ends an answer, Ctrl-D leaves")
            self._at_the_terminal()
            return
        for number, line in _piped():
            try:
                turn = self._obey(line)
            except UserError as error:
                raise UserError(f"line {number} of the input: {error}") from None
            if turn is not None and turn.finish_reason == "interrupted":
                raise KeyboardInterrupt
            if not self._running:
                return

    def _at_the_terminal(self) -> None:
        with contextlib.suppress(ImportError):  # lines can be edited, and called back, where Python has it
            import readline  # noqa: F401
        again = False  # whether the last thing that happened was a Ctrl-C
        while self._running:
            try:
                line = _typed()
                if line is None:
                    _note("")
                    return
                again = False
                turn = self._obey(line)
                again = turn is not None and turn.finish_reason == "interrupted"
            except KeyboardInterrupt:  # at the prompt, or between an answer and the next one
                _note("")
                if again:
                    return
                again = True
                _note("(Ctrl-C again leaves)")
            except UserError as error:
                _note(f"{error}")
            except OSError as error:  # a full disk, a folder that is not there: what was said is still here
                if isinstance(error, BrokenPipeError):
                    raise
                _note(f"{error.filename or ''}: {error.strerror}")

    def _obey(self, line: str) -> Turn | None:
        """Carries out a command, or answers a message: then what was said."""
        if not line.strip():
            return None
        if line[0] not in "/／":  # the second is what a Chinese keyboard gives
            return self._answered(lambda: self.chat.ask(line, self._show))
        if line[1:2] == line[0]:
            return self._answered(lambda: self.chat.ask(line[1:], self._show))
        name, _, argument = line[1:].strip().partition(" ")
        argument = argument.strip()
        if name not in COMMANDS:
            raise UserError(f"no command /{name}: {nearest(name, list(COMMANDS))} (a message may begin with //)")
        wants = COMMANDS[name][0]
        if argument and not wants:
            raise UserError(f"/{name} stands alone")
        if wants == "FILE" and not argument:
            raise UserError(f"/{name} FILE: which file?")
        if name == "retry":
            return self._answered(lambda: self.chat.retry(self._show))
        getattr(self, f"_{name}")(*([argument] if wants else []))
        return None

    def _answered(self, answer: Callable[[], Turn]) -> Turn:
        turn = answer()
        self._keep()
        if self.emit is None:
            print(flush=True)
        else:
            self.emit({**dataclasses.asdict(turn), **self.about})
        if turn.finish_reason == "interrupted":
            _note("(interrupted)" if turn.text else "(interrupted: the message is not kept; /retry asks it again)")
        elif turn.finish_reason == "length" and self.emit is None:
            full = len(turn.ids) < self.chat.sampling.max_tokens
            _note("(cut: the context is full)" if full else f"(cut after --max-tokens {len(turn.ids)})")
        if turn.forgotten > self._forgotten:
            _note(f"(the context is full: the oldest {_exchanges(turn.forgotten)} not read any more)")
        self._forgotten = turn.forgotten
        return turn

    def _show(self, text: str) -> None:
        if self.emit is None:
            print(text.translate(self._translated), end="", flush=True)

    def _keep(self) -> None:
        if self.kept is not None:
            self.kept.save(self.chat.messages)

    def _help(self) -> None:
        width = max(20, shutil.get_terminal_size().columns)
        for name, (argument, meaning) in COMMANDS.items():
            head = f"/{name} {argument}".strip()
            _note(textwrap.fill(f"{head:<14}{meaning}", width, subsequent_indent=" " * min(14, width // 4)))

    def _save(self, name: str) -> None:
        path = path_of(name)
        if path.exists() and path.resolve() not in self._saved:
            raise UserError(f"{path} exists already: choose another name")
        transcript.write(path, [transcript.line_of(self.chat.messages)])
        self._saved.add(path.resolve())
        _note(f"(saved to {path})")

    def _load(self, name: str) -> None:
        path = path_of(name)
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        messages = transcript.read(path)
        self._close()
        self.chat.restart(messages)
        self._keep()
        _note(f"({len(messages)} messages from {path})")

    def _system(self, text: str) -> None:
        if text:
            self.chat.set_system(text)
            self._keep()
        _note(f"(system prompt: {self.chat.system or 'none'})")

    def _undo(self) -> None:
        text = self.chat.undo()
        self._keep()
        _note(f"(taken back: {textwrap.shorten(text, 60, placeholder=' …')})")

    def _clear(self) -> None:
        self._close()
        self.chat.restart()
        self._keep()
        _note("(cleared)")

    def _quit(self) -> None:
        self._running = False

    def _close(self) -> None:
        """What comes next is another conversation, on a line of its own."""
        if self.kept is not None:
            self.kept.begin(self.chat.messages)
        self._forgotten = 0


def _piped() -> Iterator[tuple[int, str]]:
    """(number, line) of stdin, as UTF-8 whatever the locale."""
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise UserError(f"line {number} of the input: not UTF-8 text") from None


def _typed() -> str | None:
    """A line that a person typed; None at the end of input."""
    try:
        if sys.stdout.isatty():
            line = input(PROMPT)
        else:
            print(PROMPT, end="", file=sys.stderr, flush=True)
            line = input()
        return line.encode("utf-8", "surrogateescape").decode("utf-8")
    except EOFError:
        return None
    except UnicodeError:
        raise UserError("that line is not text in the terminal's encoding: it was not sent") from None


def _exchanges(number: int) -> str:
    return "exchange is" if number == 1 else f"{number} exchanges are"


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
