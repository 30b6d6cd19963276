"""A disk that fills up: one clear line, earlier checkpoints whole, no rest, and the run goes on once there is room."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_runs import assert_same_run, recipe, recipe_file

from yuwen.app.run.train import train
from yuwen.cli.main import run as command
from yuwen.training import Checkpoints
from yuwen.training.checkpoint import damaged


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 2 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not possible here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture
def limited_files() -> Iterator[Callable[[int], None]]:
    """No file may grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def ballast(disk: Path, leave: int) -> Path:
    """Fills the disk up to `leave` bytes."""
    path = disk / "ballast"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize
    path.write_bytes(bytes(max(0, free - leave)))
    return path


def assert_whole(run: Path, last: int) -> None:
    steps = Checkpoints(run).steps()
    assert steps[-1] == last
    assert [damaged(run / f"checkpoint-{step}") for step in steps] == [None] * len(steps)
    assert (run / "last").resolve().name == f"checkpoint-{last}"
    assert not list(run.glob(".writing-*"))


def failure(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """The line of a command line that must fail."""
    assert command(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("yuwen: ")]
    assert len(lines) == 1
    return lines[0]


def test_during_a_save(tmp_path: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(recipe(tmp_path), tmp_path / "whole", quiet=True)
    run, path = small_disk / "run", str(recipe_file(tmp_path))
    train(recipe(tmp_path, "train.steps=12"), tmp_path / "sized", quiet=True)
    one = sum(file.stat().st_size for file in (tmp_path / "sized" / "checkpoint-12").rglob("*") if file.is_file())
    weight = ballast(small_disk, leave=int(1.7 * one))  # one checkpoint and a half
    said = failure(capsys, ["train", path, "--out", str(run)])
    assert "checkpoint-8: cannot be written" in said and "No space left on device" in said
    assert "earlier checkpoints are whole: make room and continue with --resume auto" in said
    assert_whole(run, 4)
    said = failure(capsys, ["train", path, "--out", str(run), "--resume", "auto"])
    assert "checkpoint-8: cannot be written" in said
    assert_whole(run, 4)
    weight.unlink()
    assert command(["train", path, "--out", str(run), "--resume", "auto"]) == 0
    assert_same_run(tmp_path / "whole", run)


def test_under_a_line_of_metrics(
    tmp_path: Path, small_disk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train(recipe(tmp_path), tmp_path / "whole", quiet=True)
    run, path = small_disk / "run", str(recipe_file(tmp_path, "train.tensorboard=true"))
    save = Checkpoints.save

    def then_fill(self: Checkpoints, *arguments: object, **named: object) -> Path:
        saved = save(self, *arguments, **named)  # type: ignore[arg-type]
        ballast(small_disk, leave=0)
        return saved

    monkeypatch.setattr(Checkpoints, "save", then_fill)
    said = failure(capsys, ["train", path, "--out", str(run)])
    assert "No space left on device" in said and "make room and continue with --resume auto" in said
    assert_whole(run, 4)
    monkeypatch.undo()
    (small_disk / "ballast").unlink()
    train(recipe(tmp_path), run, resume="auto", quiet=True)
    assert_same_run(tmp_path / "whole", run)


def test_files_that_may_not_grow(
    tmp_path: Path, limited_files: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    train(recipe(tmp_path), tmp_path / "whole", quiet=True)
    run, path = tmp_path / "run", str(recipe_file(tmp_path))
    train(recipe(tmp_path, "train.steps=4"), run, quiet=True)
    limited_files(40_000)
    said = failure(capsys, ["train", path, "--out", str(run), "--resume", "auto"])
    assert "checkpoint-8: cannot be written" in said and "File too large" in said
    assert_whole(run, 4)
    limited_files(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    assert command(["train", path, "--out", str(run), "--resume", "auto"]) == 0
