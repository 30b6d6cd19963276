"""The run folder's checkpoints: written whole or not at all, verified before they are trusted.

    checkpoint-N/            a Hugging Face-layout folder: config.json, model.safetensors, tokenizer.json …
        training/            state.safetensors (the optimiser's memory), state.json (counters)
            manifest.json    size and SHA-256 of every file, written last
    last, best               symbolic links

A save goes to a temporary name, every file and folder is fsynced, then renamed: at any moment, whatever kills the
process, a checkpoint of the final name is complete. The order is: new folder, `best`, `last`, then removal of old ones.
`last` says where the run stands: a checkpoint beyond it belongs to a life that was given up, and is not resumed.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from yuwen.disk import sha256, sync
from yuwen.errors import UserError

_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(slots=True)
class Saved:
    """A checkpoint read back: its folder, counters and tensors."""

    folder: Path
    state: dict[str, Any]
    tensors: dict[str, Tensor]


class Checkpoints:
    """The checkpoints of one run folder. `keep` newest stay, and the best."""

    def __init__(self, run: Path, *, keep: int = 2, warn: Callable[[str], None] = lambda line: None) -> None:
        self.run, self.keep, self.warn = run, keep, warn

    def steps(self) -> list[int]:
        """Steps with a complete checkpoint, rising."""
        if not self.run.is_dir():
            return []
        matches = (_NAME.fullmatch(path.name) for path in self.run.iterdir() if path.is_dir())
        return sorted(int(match[1]) for match in matches if match)

    def save(
        self,
        step: int,
        save_model: Callable[[Path], None],
        state: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        *,
        best: bool = False,
    ) -> Path:
        """Writes checkpoint `step` and makes it `last` (and `best`). UserError when there is no room: none is lost."""
        from safetensors.torch import save_file

        final = self.run / f"checkpoint-{step}"
        temporary = self.run / f".writing-checkpoint-{step}"
        try:
            self.clean()
            (temporary / "training").mkdir(parents=True)
            save_model(temporary)
            save_file(
                {name: t.contiguous() for name, t in tensors.items()}, temporary / "training" / "state.safetensors"
            )
            _write(temporary / "training" / "state.json", json.dumps(state, indent=1))
            manifest = {str(path.relative_to(temporary)): _seal(path) for path in _files(temporary)}
            _write(temporary / "training" / "manifest.json", json.dumps(manifest, indent=1))
            for folder in (temporary / "training", temporary):
                sync(folder)
            if final.exists():  # beyond `last`, so nobody's link points here
                self._remove(final.name)
            temporary.rename(final)
            sync(self.run)
        except Exception as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if isinstance(error, OSError) or "I/O error" in str(error) or "os error" in str(error):
                free = shutil.disk_usage(self.run).free >> 20
                raise UserError(
                    f"{final}: cannot be written ({getattr(error, 'strerror', None) or error}; {free} MiB free); "
                    "earlier checkpoints are whole: make room and continue with --resume auto"
                ) from error
            raise
        if best:  # first: whoever goes on from `last` knows its best, and from the one before `last` none is lost
            self._link("best", final.name)
        self._link("last", final.name)
        self._prune(step)
        return final

    def load(self) -> Saved | None:
        """The newest checkpoint (up to `last`) that is whole; a damaged one is named and the one before it used.

        None where there is no checkpoint; UserError where all are damaged.
        """
        steps, last = self.steps(), self._linked("last")
        upto = [step for step in steps if last is None or step <= last] or steps
        for number in reversed(upto):
            folder = self.run / f"checkpoint-{number}"
            damage = damaged(folder)
            if damage is None:
                return read(folder)
            self.warn(f"{folder} is damaged ({damage}): using the checkpoint before it")
        if upto:
            raise UserError(f"{self.run}: no checkpoint is whole: choose another --out to begin anew")
        return None

    def rewind(self, step: int, best: int = 0) -> bool:
        """Goes on from checkpoint `step`, before which `best` was the best (0: nobody knows): later ones are void, and
        are removed by the next save. False if the best of those before it is gone."""
        self._link("last", f"checkpoint-{step}")
        linked = self._linked("best")
        if best and linked != best and (self.run / f"checkpoint-{best}").is_dir():
            self._link("best", f"checkpoint-{best}")
        elif linked is not None and linked > step:
            (self.run / "best").unlink()
        return self._linked("best") is not None

    def clean(self) -> None:
        """Removes what a killed process left half written or half removed."""
        for rest in [*self.run.glob(".writing-checkpoint-*"), *self.run.glob(".removing-checkpoint-*")]:
            shutil.rmtree(rest, ignore_errors=True)

    def _link(self, name: str, target: str) -> None:
        temporary = self.run / f".link-{name}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.replace(self.run / name)
        sync(self.run)

    def _linked(self, name: str) -> int | None:
        """The step that a link names."""
        link = self.run / name
        match = _NAME.fullmatch(link.readlink().name) if link.is_symlink() else None
        return int(match[1]) if match else None

    def _prune(self, newest: int) -> None:
        steps = self.steps()
        valid = [step for step in steps if step <= newest]
        kept = {*valid[-max(1, self.keep) :], self._linked("last"), self._linked("best")}
        for step in steps:
            if step not in kept:
                self._remove(f"checkpoint-{step}")

    def _remove(self, name: str) -> None:
        doomed = self.run / f".removing-{name}"  # a half-removed folder must not look like a checkpoint
        shutil.rmtree(doomed, ignore_errors=True)
        (self.run / name).rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def read(folder: Path) -> Saved:
    """Counters and tensors of one checkpoint."""
    from safetensors.torch import load_file

    training = folder / "training"
    return Saved(folder, json.loads((training / "state.json").read_text()), load_file(training / "state.safetensors"))


def damaged(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None: every file must be there with the size and hash of its manifest."""
    manifest_path = folder / "training" / "manifest.json"
    try:
        manifest = json.loads(manifest_path.read_text())
        if not {"training/state.json", "training/state.safetensors"} <= set(manifest):
            return "training/manifest.json is not complete"
        for name, seal in manifest.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != seal["bytes"] or _seal(path) != seal:
                return f"{name} has changed since it was written"
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return "training/manifest.json cannot be read"
    return None


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            sync(path)
            yield path


def _seal(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    sync(path)
