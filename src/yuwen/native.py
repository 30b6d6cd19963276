"""C of our own: compiled on the user's machine when it is first wanted, and kept in the user's cache folder."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from yuwen.disk import cache_folder

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

    Kept under the hash of source, flags, compiler and processor (a compiler may be told to suit the one it runs on), so
    each is compiled once. Raises Unavailable, also where others could have put the kept file there.
    """
    command = [*compiler(), "-O3", "-shared", "-fPIC", *flags]
    facts = [source.read_bytes(), *(fact.encode() for fact in (*command, str(Path(command[0]).stat().st_mtime_ns)))]
    facts.append(_processor())
    name = f"{source.stem}-{hashlib.sha256(b'%'.join(facts)).hexdigest()[:16]}.so"
    folder = cache_folder() / "native"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_shared(folder)
        with contextlib.suppress(OSError):
            return ctypes.CDLL(str(folder / name))
        with tempfile.TemporaryDirectory(dir=folder) as temporary:  # renamed when whole: others may want it just now
            made = Path(temporary) / name
            run = subprocess.run(
                [*command, str(source), "-lm", "-o", str(made)],
                capture_output=True,
                text=True,
                timeout=_PATIENCE,
                env={**os.environ, "LC_ALL": "C"},  # `_first_error` reads English
            )
            if run.returncode:
                raise Unavailable(f"{command[0]} cannot compile {source.name}: {_first_error(run.stderr)}")
            made.replace(folder / name)
        return ctypes.CDLL(str(folder / name))
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{source.name} cannot be compiled: {error}") from None


def _processor() -> bytes:
    """What this processor can do, as far as the system tells."""
    known = [platform.machine()]
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        known += [line for line in lines if line.startswith(("flags", "Features"))][:1]
    return "\n".join(known).encode()


def _refuse_shared(folder: Path) -> None:
    """Raises Unavailable for a folder that others may write to: what lies in it is run."""
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise Unavailable(f"{folder} is someone else's or others may write to it: own it and chmod 700, or remove it")


def _first_error(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[0] if lines else "no message")[:200]
