"""Files that are replaced whole."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from yuwen.disk import replace_text


def test_a_text_takes_a_files_place(tmp_path: Path) -> None:
    path, link = tmp_path / "a.json", tmp_path / "link.json"
    replace_text(path, "语\n")
    path.chmod(0o600)
    link.symlink_to(path.name)
    replace_text(link, "文\n")
    assert path.read_text(encoding="utf-8") == "文\n" and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert link.is_symlink() and sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "link.json"]


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    replace_text(path, "before")

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        replace_text(path, "after")
    assert path.read_text(encoding="utf-8") == "before" and list(tmp_path.iterdir()) == [path]
