"""C of our own is compiled once, kept, and its absence is told in words."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from yuwen.native import Unavailable, library
from yuwen.nn import fused

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "yuwen" / "native"


@needs_compiler
def test_a_source_is_compiled_once_and_anew_when_it_changes(tmp_path: Path, cache: Path) -> None:
    source = tmp_path / "three.c"
    source.write_text("int three(void) { return 3; }")
    assert library(source, []).three() == 3
    (kept,) = cache.iterdir()
    stamp = kept.stat().st_mtime_ns
    assert library(source, []).three() == 3
    assert [path.stat().st_mtime_ns for path in cache.iterdir()] == [stamp]
    source.write_text("int three(void) { return 4 - 1; }")
    assert library(source, []).three() == 3
    assert len(list(cache.iterdir())) == 2


@needs_compiler
def test_what_does_not_compile_is_told_in_a_line(tmp_path: Path, cache: Path) -> None:
    source = tmp_path / "wrong.c"
    source.write_text("int three(void) { return nothing; }")
    with pytest.raises(Unavailable, match=r"cannot compile wrong\.c: .*nothing"):
        library(source, [])
    assert not list(cache.iterdir()), "and nothing is left behind"


@needs_compiler
@pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="no AVX512_BF16: it is never compiled here")
def test_our_own_kernel_compiles() -> None:
    assert fused.prepare() is None


@needs_compiler
def test_a_folder_that_others_may_write_to_is_not_run_from(tmp_path: Path, cache: Path) -> None:
    source = tmp_path / "six.c"
    source.write_text("#include <math.h>\nint six(void) { volatile double x = 6; return (int)floor(x); }")
    assert library(source, []).six() == 6
    assert cache.stat().st_mode & 0o077 == 0
    cache.chmod(0o777)
    with pytest.raises(Unavailable, match=r"others may write to it: own it and chmod 700"):
        library(source, [])


@needs_compiler
def test_messages_are_read_in_whatever_language(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "cc"
    program.write_text(
        '#!/bin/sh\necho "in function" >&2\necho "x.c:1: ${LC_ALL:-other}: error: no such" >&2\nexit 1\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("CC", str(program))
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    source = tmp_path / "eight.c"
    source.write_text("")
    with pytest.raises(Unavailable, match=r"x\.c:1: C: error: no such"):
        library(source, [])


@needs_compiler
def test_a_kept_file_that_is_damaged_is_made_again(tmp_path: Path, cache: Path) -> None:
    source = tmp_path / "five.c"
    source.write_text("int five(void) { return 5; }")
    library(source, [])
    (kept,) = cache.iterdir()
    kept.unlink()
    kept.write_bytes(b"not a library")
    assert library(source, []).five() == 5


@needs_compiler
def test_no_room_is_told(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "seven.c"
    source.write_text("int seven(void) { return 7; }")
    monkeypatch.setenv("XDG_CACHE_HOME", str(source))
    with pytest.raises(Unavailable, match=r"seven\.c cannot be compiled"):
        library(source, [])


@needs_compiler
def test_another_compiler_by_name(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "eight.c"
    source.write_text("int eight(void) { return EIGHT; }")
    monkeypatch.setenv("CC", "cc -DEIGHT=8")
    assert library(source, []).eight() == 8
    monkeypatch.setenv("CC", "no-such-compiler -O1")
    with pytest.raises(Unavailable, match="CC=no-such-compiler: no such program"):
        library(source, [])


def test_no_compiler_is_told(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "six.c"
    source.write_text("int six(void) { return 6; }")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(Unavailable, match="no C compiler"):
        library(source, [])
