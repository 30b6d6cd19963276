"""What PyTorch can do on this machine, found by trying: does `torch.compile` work, is bfloat16 fast.

The trial of the compiler costs some ten seconds once; its verdict is kept in the user's cache folder, under a key of
everything it depends on.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass

from yuwen.app.machine import resources
from yuwen.disk import cache_folder, replace_text

# Forward and backward, a loop nest to be vectorised and a reduction: what a training step asks of the compiler.
TRIAL = """
import torch
def f(x): return (torch.nn.functional.silu(x) * x).sum(-1).logsumexp(0)
x = torch.linspace(-2, 2, 64 * 48).reshape(64, 48).requires_grad_()
expected, = torch.autograd.grad(f(x), x)
found, = torch.autograd.grad(torch.compile(f)(x), x)
torch.testing.assert_close(found, expected)
"""
PATIENCE = 180  # seconds; a busy two-core machine needs about thirty


@dataclass(frozen=True)
class Verdict:
    """Yes or no (it is true or false itself), and the reason in words for a person."""

    works: bool
    reason: str

    def __bool__(self) -> bool:
        return self.works


def compiler() -> str | None:
    """The C++ compiler PyTorch will call: $CXX, else the platform's usual one; None when it is not installed."""
    return shutil.which(os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++"))


def compiler_works(again: bool = False) -> Verdict:
    """Whether `torch.compile` works here, by compiling one tiny function in a process of its own.

    The first call takes some ten seconds, later ones (also of later runs) read the kept verdict; `again` tries anew.
    """
    path = compiler()
    if path is None:
        return Verdict(False, "no C++ compiler found: install g++ (or set CXX) for faster training")
    kept = cache_folder() / f"compiler-{_key(path)}.json"
    if not again:
        try:
            return Verdict(**json.loads(kept.read_text()))
        except (OSError, ValueError, TypeError):
            pass
    try:
        english = {**os.environ, "LC_ALL": "C"}  # `_cause` reads the compiler's messages
        trial = subprocess.run(
            [sys.executable, "-c", TRIAL], capture_output=True, text=True, timeout=PATIENCE, env=english
        )
    except subprocess.TimeoutExpired:  # perhaps only a busy machine, so not kept
        return Verdict(False, f"{path} did not finish a trial within {PATIENCE} s")
    if trial.returncode == 0:
        verdict = Verdict(True, f"a trial function compiled with {path} and gave the right result")
    else:
        verdict = Verdict(False, f"a trial with {path} failed: {_cause(trial.stderr)}")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        replace_text(kept, json.dumps(asdict(verdict)))
    except OSError:  # a cache that cannot be written only costs time
        pass
    return verdict


def _key(path: str) -> str:
    import torch

    version = subprocess.run([path, "--version"], capture_output=True, text=True).stdout.partition("\n")[0]
    facts = [torch.__version__, platform.python_version(), sys.executable, path, version, resources.processor(), TRIAL]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _cause(stderr: str) -> str:
    """The most telling line of a failed trial: the compiler's first error, else the exception at the end."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    compiler_errors = [line for line in lines if "error: " in line]
    exceptions = [line for line in lines if "Error: " in line]
    return (compiler_errors[:1] or exceptions[-1:] or lines[-1:] or ["no message"])[0][:300]
