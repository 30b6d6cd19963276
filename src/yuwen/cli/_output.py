"""What every verb shares: how results are printed, and how an error becomes one line and an exit status.

stdout carries results only (text, or one JSON document under `--json`); progress, notes and errors go to stderr.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from yuwen.errors import UserError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout instead of text.")]
"""The `--json` option, the same on every verb: `def stats(data: str, as_json: Json = False)`."""

MISTAKE, FAULT, INTERRUPTED, READER_GONE = 2, 1, 130, 141  # the last two are what a shell reports for the signals

# Typer before 0.2x takes these classes from click, later ones from its own copy; through BadParameter both are met.
UsageError: Any = typer.BadParameter.__base__

HINTS = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "your disk quota is used up: free some space or choose another folder",
    errno.EACCES: "check its permissions or choose another path",
    errno.EPERM: "check its permissions or choose another path",
    errno.EROFS: "choose a folder that can be written",
    errno.ENOENT: "check the path",
    errno.EEXIST: "a file stands where a folder is needed",
    errno.ENOTDIR: "a file stands where a folder is needed",
    errno.EISDIR: "a folder stands where a file is needed",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EFBIG: "the file system allows no file of this size",
}


def print_json(value: Any) -> None:
    """Prints one JSON document on one line of stdout: Chinese stays readable where stdout can write all of Unicode,
    what is not finite becomes null."""
    ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
    print(json.dumps(plain(value), ensure_ascii=ascii_only, allow_nan=False), flush=True)


def note(text: str) -> None:
    """Prints a line for the human on stderr, which never mixes with results."""
    print(text, file=sys.stderr, flush=True)


def plain(value: Any) -> Any:
    """Reduces paths, dataclasses, tuples, numpy and torch values to what JSON knows."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if hasattr(value, "tolist"):  # numpy and torch, scalars as well as arrays
        return plain(value.tolist())
    return str(value)


def exit_status(error: BaseException) -> int:
    """Tells the user about an error in one line on stderr and returns the exit status it deserves."""
    if isinstance(error, UserError):
        return _mistake(str(error))
    if isinstance(error, UsageError):
        return _mistake(_usage(error))
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        note("yuwen: interrupted")
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        _hush()
        return READER_GONE
    if isinstance(error, OSError) and error.errno in HINTS:
        _hush()
        where = f"{error.filename}: " if error.filename else ""
        return _mistake(f"{where}{error.strerror}: {HINTS[error.errno]}")
    return _fault(error)


def _hush() -> None:
    """Points what can no longer be written to at nothing, so that the interpreter's last flush stays quiet too."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _mistake(message: str) -> int:
    note(f"yuwen: {' '.join(message.split())}")
    return MISTAKE


def _usage(error: Any) -> str:
    command = error.ctx.command_path if error.ctx else "yuwen"
    message = error.format_message()
    if error.ctx and hasattr(error, "option_name") and hasattr(error, "possibilities"):
        from yuwen.config import nearest

        known = [name for parameter in error.ctx.command.params for name in parameter.opts if name.startswith("--")]
        message = f"no such option {error.option_name}: {nearest(error.option_name, [*known, '--help'])}"
    where = command.removeprefix("yuwen").strip()
    message = f"{message[:1].lower()}{message[1:]}".rstrip(".")
    return f"{where}{': ' if where else ''}{message} (see {command} --help)"


def _fault(error: BaseException) -> int:
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    message = f"yuwen: a fault of ours, {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if os.environ.get("YUWEN_DEBUG") == "1":
        note(f"{text}{message}")
        return FAULT
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="yuwen-fault-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(f"{sys.argv}\n{text}")
    except OSError:  # no temporary folder either: the traceback must not be lost
        note(f"{text}{message}")
    else:
        note(f"{message} (traceback in {Path(file.name)}; YUWEN_DEBUG=1 shows it here)")
    return FAULT
