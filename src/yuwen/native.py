"""C of our own: compiled on the user's machine when it is first wanted, and kept in the user's cache folder."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

_PATIENCE = 120  # seconds; a source takes about one


class Unavailable(Exception):
    """Why there is no library, in words for a person."""


def compiler() -> list[str]:
    """The C compiler's command: $CC, which may have arguments, or else the system's. Raises Unavailable."""
    asked = shlex.split(os.environ.get("CC", ""))
    found = next((path for name in asked[:1] or ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if found is None:
        raise Unavailable(
            f"CC={asked[0]}: no such program" if asked else "no C compiler found: install gcc (or set CC)"
        )
    return [found, *asked[1:]]


def library(source: Path, flags: Sequence[str]) -> ctypes.CDLL:
    """The shared library of a C source, compiled with `flags` by $CC or the system's compiler.

    Kept under the hash of source, flags and compiler, so each is compiled once. Raises Unavailable.
    """
    command = [*compiler(), "-O3", "-shared", "-fPIC", *flags]
    facts = [source.read_bytes(), *(fact.encode() for fact in (*command, str(Path(command[0]).stat().st_mtime_ns)))]
    name = f"{source.stem}-{hashlib.sha256(b'%'.join(facts)).hexdigest()[:16]}.so"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yuwen" / "native"
    with contextlib.suppress(OSError):
        return ctypes.CDLL(str(folder / name))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:  # renamed when whole: others may want it just now
            made = Path(temporary) / name
            run = subprocess.run(
                [*command, str(source), "-o", str(made)], capture_output=True, text=True, timeout=_PATIENCE
            )
            if run.returncode:
                raise Unavailable(f"{command[0]} cannot compile {source.name}: {_first_error(run.stderr)}")
            made.replace(folder / name)
        return ctypes.CDLL(str(folder / name))
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{source.name} cannot be compiled: {error}") from None


def _first_error(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[0] if lines else "no message")[:200]
