"""Wheels made by hand, sound ones and others."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def wheel(
    folder: Path,
    name: str,
    files: Mapping[str, bytes],
    *,
    version: str = "1.0",
    requires: Sequence[str] = (),
    record: Mapping[str, bytes] | None = None,
) -> Path:
    """Writes name-version-py3-none-any.whl; `record` are the contents that RECORD speaks of, if they are others."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    members = {
        f"{module}/__init__.py": b"raise SystemExit('a wheel must never be imported')\n",
        **{f"{module}/{file}": content for file, content in files.items()},
        f"{info}/METADATA": "\n".join([*lines, "", "A test."]).encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    described = {**members, **{f"{module}/{file}": content for file, content in (record or {}).items()}}
    rows = []
    for file, content in described.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.append(f"{file},sha256={digest},{len(content)}")
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in {**members, f"{info}/RECORD": "\n".join([*rows, f"{info}/RECORD,,"]).encode()}.items():
            archive.writestr(file, content)
    return path
