"""The checkpoints of a run folder, whatever happens around them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from yuwen.errors import UserError
from yuwen.training import Checkpoints
from yuwen.training.checkpoint import damaged


def save(checkpoints: Checkpoints, step: int, *, best: bool = False) -> Path:
    def save_model(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"weights of step %d" % step)

    return checkpoints.save(step, save_model, {"step": step}, {"a": torch.tensor([step])}, best=best)


def test_out_and_back(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load() is None
    folder = save(checkpoints, 3)
    saved = checkpoints.load()
    assert saved is not None
    assert (saved.folder, saved.state, saved.tensors["a"].tolist()) == (folder, {"step": 3}, [3])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-3", "last"]


def test_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3, 4, 5):
        save(checkpoints, step, best=step == 2)
        assert (tmp_path / "last").resolve() == tmp_path / f"checkpoint-{step}"
    assert checkpoints.steps() == [2, 4, 5]
    assert (tmp_path / "best").resolve() == tmp_path / "checkpoint-2"
    save(checkpoints, 6, best=True)
    assert checkpoints.steps() == [5, 6]


def test_links_hold_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks a save off at each call that changes the folder: the links lead to whole checkpoints all the same."""
    import shutil

    class Killed(BaseException):
        pass

    real = {name: getattr(Path, name) for name in ("rename", "replace", "symlink_to", "mkdir")}
    real_remove = shutil.rmtree
    moments = 0
    for moment in range(40):
        run = tmp_path / str(moment)
        checkpoints = Checkpoints(run, keep=1)
        save(checkpoints, 1, best=True)
        save(checkpoints, 2)
        left = [moment]

        def counted(call, left=left):  # type: ignore[no-untyped-def]
            def act(*arguments, **named):  # type: ignore[no-untyped-def]
                if not left[0]:
                    raise Killed
                left[0] -= 1
                return call(*arguments, **named)

            return act

        for name, call in real.items():
            monkeypatch.setattr(Path, name, counted(call))
        monkeypatch.setattr(shutil, "rmtree", counted(real_remove))
        try:
            save(checkpoints, 3, best=True)
            finished = True
        except Killed:
            finished = False
        monkeypatch.undo()
        assert damaged((run / "last").resolve()) is None
        assert damaged((run / "best").resolve()) is None
        saved = checkpoints.load()
        assert saved is not None and saved.state["step"] in (2, 3)
        checkpoints.clean()
        save(checkpoints, 3, best=True)
        save(checkpoints, 4, best=True)
        assert sorted(path.name for path in run.iterdir()) == ["best", "checkpoint-4", "last"]
        if finished:
            break
        moments += 1
    assert finished and moments > 5


def test_an_unrelated_error_is_passed_on_and_leaves_no_rest(tmp_path: Path) -> None:
    def save_model(folder: Path) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Checkpoints(tmp_path).save(1, save_model, {}, {})
    assert list(tmp_path.iterdir()) == []


def test_what_lies_beyond_last_is_not_resumed(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=9)
    for step in (1, 2, 3):
        save(checkpoints, step, best=step == 3)
    checkpoints.rewind(1)
    assert checkpoints.load().state == {"step": 1}  # type: ignore[union-attr]
    assert not (tmp_path / "best").is_symlink()
    save(checkpoints, 2)
    assert checkpoints.steps() == [1, 2]


def test_damage_is_told(tmp_path: Path) -> None:
    warnings: list[str] = []
    checkpoints = Checkpoints(tmp_path, warn=warnings.append)
    save(checkpoints, 1)
    newest = save(checkpoints, 2)
    (newest / "training" / "manifest.json").write_text("{}")
    assert checkpoints.load().state == {"step": 1}  # type: ignore[union-attr]
    assert warnings == [f"{newest} is damaged (training/manifest.json is not complete): using the checkpoint before it"]
    (tmp_path / "checkpoint-1" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no checkpoint is whole"):
        checkpoints.load()
