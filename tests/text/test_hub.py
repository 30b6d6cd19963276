"""The Hub's client against a small server that speaks its protocol."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from yuwen.errors import UserError
from yuwen.text import hub

FILES = {
    "README.md": b"---\nlicense: mit\n---\n# A dataset\n",
    "train-00000-of-00002.jsonl": '{"text": "一"}\n'.encode(),
    "train-00001-of-00002.jsonl": '{"text": "二"}\n'.encode(),
    "test.jsonl": b'{"text": "held out"}\n',
    "script.py": b"raise SystemExit('remote code ran')",
    "photo.png": b"\x89PNG",
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


ASKED: list[str] = []  # by the server's own account


class Hub(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        ASKED.append(path)
        if path == f"/api/datasets/org/name/tree/{'main'}":
            rows = [{"type": "file", "oid": "0" * 40, "path": name, "size": len(raw)} for name, raw in FILES.items()]
            return self._send(json.dumps(rows).encode(), "application/json")
        if path.startswith(("/api/datasets/org/name/revision/", "/api/datasets/org/name")):
            info = {"id": "org/name", "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]}
            return self._send(json.dumps(info).encode(), "application/json")
        if path.startswith("/datasets/org/name/resolve/") and (name := path.split("/", 6)[6]) in FILES:
            return self._send(FILES[name], "application/octet-stream")
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, raw: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(raw)))
        self.send_header("ETag", f'"{hashlib.sha1(raw).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


PROGRAM = """
import json, sys
from yuwen import text
from yuwen.errors import UserError
try:
    print(json.dumps([[d.text, d.source] for d in text.read(sys.argv[1])]))
except UserError as error:
    sys.exit(f"mistake: {error}")
"""


def read(source: str, cache: Path, program: str = PROGRAM, **environment: str) -> subprocess.CompletedProcess[str]:
    caches = {"HF_HOME": str(cache), "XDG_CACHE_HOME": str(cache)}
    plain = {name: value for name, value in os.environ.items() if "proxy" not in name.lower() and name[:3] != "HF_"}
    return subprocess.run(
        [sys.executable, "-c", program, source],
        capture_output=True,
        text=True,
        timeout=60,
        env={**plain, **caches, "HF_HUB_DISABLE_TELEMETRY": "1", **environment},
    )


def test_a_dataset_is_fetched_named_and_read_again_offline(endpoint: str, tmp_path: Path) -> None:
    expected = [["一", "hf:org/name/train-00000-of-00002.jsonl"], ["二", "hf:org/name/train-00001-of-00002.jsonl"]]
    result = read("hf:org/name", tmp_path, HF_ENDPOINT=endpoint)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == expected
    assert "hf:org/name: fetching train-00000-of-00002.jsonl, train-00001-of-00002.jsonl" in result.stderr
    result = read("hf:org/name", tmp_path, HF_HUB_OFFLINE="1")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == expected
    result = read("hf:org/name:test", tmp_path, HF_HUB_OFFLINE="1")
    assert "mistake: hf:org/name:test: " in result.stderr and "Traceback" not in result.stderr
    assert json.loads(read("hf:org/name:test", tmp_path, HF_ENDPOINT=endpoint).stdout)[0][0] == "held out"


def test_a_split_whose_fetching_broke_off_is_not_whole(endpoint: str, tmp_path: Path) -> None:
    assert read("hf:org/name", tmp_path, HF_ENDPOINT=endpoint).returncode == 0
    [second] = tmp_path.rglob("snapshots/*/train-00001-of-00002.jsonl")
    second.unlink()
    result = read("hf:org/name", tmp_path, HF_HUB_OFFLINE="1")
    assert result.returncode == 1 and "mistake: hf:org/name: not in the local cache" in result.stderr


def test_a_process_asks_the_hub_once(endpoint: str, tmp_path: Path) -> None:
    twice = PROGRAM.replace("try:", "try:\n    first = [d.text for d in text.read(sys.argv[1])]", 1)
    before = len(ASKED)
    assert read("hf:org/name", tmp_path, program=twice, HF_ENDPOINT=endpoint).returncode == 0
    once = ASKED[before:]
    assert once.count("/api/datasets/org/name/tree/main") + once.count("/api/datasets/org/name/revision/main") <= 1


@pytest.mark.parametrize(
    ("source", "environment", "message"),
    [
        ("hf:org/name:tset", {}, "no split tset; did you mean test?"),
        ("hf:org/other", {}, "hf:org/other: "),
        ("hf:org/name", {"HF_HUB_OFFLINE": "1"}, "not in the local cache"),
        pytest.param(
            *("hf:org/name", {"HF_ENDPOINT": "http://127.0.0.1:1"}, "cannot be fetched: "),
            marks=pytest.mark.slow,  # the client tries for 20 s
        ),
        ("hf:a/b/c", {}, "not a dataset's name; write hf:org/name[:config][:split]"),
    ],
)
def test_mistakes(endpoint: str, tmp_path: Path, source: str, environment: dict[str, str], message: str) -> None:
    result = read(source, tmp_path, **{"HF_ENDPOINT": endpoint, **environment})
    assert result.returncode == 1 and "  File " not in result.stderr
    assert f"mistake: {source}: " in result.stderr and message in result.stderr


def test_which_files_make_which_split() -> None:
    names = ["data/train-00000.parquet", "data/validation-00000.parquet", "zh/train.jsonl", "zh/dev.jsonl"]
    assert hub.table(names[:2], []) == {"default": {"train": names[:1], "validation": names[1:2]}}
    assert hub.table(names[2:], []) == {"zh": {"train": names[2:3], "validation": names[3:]}}
    card = [
        {"config_name": "a", "data_files": [{"split": "x", "path": "data/*"}]},
        {"config_name": "b", "data_files": "zh/*.jsonl"},
    ]
    found = hub.table(names, card)
    assert found == {"a": {"x": names[:2]}, "b": {"train": names[2:]}}
    assert hub.choose("hf:n", found, ["a"]) == names[:2] == hub.choose("hf:n", found, ["a", "x"])
    assert hub.choose("hf:n", hub.table(names[2:], []), ["dev"]) == names[3:]
    within = [{"data_dir": "zh/", "data_files": [{"split": "train", "path": "*.jsonl"}]}]
    assert hub.table([*names, "train.jsonl", "zh/more/x.jsonl"], within) == {"default": {"train": names[2:]}}
    anywhere = [{"data_files": [{"split": "train", "path": "**/*.jsonl"}, {"split": "test", "path": "data/**"}]}]
    assert hub.table([*names, "x.jsonl"], anywhere) == {
        "default": {"train": [*names[2:], "x.jsonl"], "test": names[:2]}
    }
    with pytest.raises(UserError, match="several configs; name one: a, b"):
        hub.choose("hf:n", found, [])
    with pytest.raises(UserError, match="no config c; known: a, b"):
        hub.choose("hf:n", found, ["c", "x"])
    with pytest.raises(UserError, match="has no files that can be read"):
        hub.choose("hf:n", {}, [])
    assert [
        name for name in ("README.md", "a.py", "x/dataset_infos.json", "a.TSV.gz", ".a.json") if hub.is_data(name)
    ] == ["a.TSV.gz"]
