"""hf:org/name by the real client, from a small server that speaks the Hub's protocol."""

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

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"model_type": "bert"}',
    "model-00001-of-00002.safetensors": b"one" * 1000,
    "model-00002-of-00002.safetensors": b"two" * 1000,
    "model.safetensors.index.json": b"{}",
    "modules.json": b"[]",
    "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}',
    "tokenizer.json": b"{}",
    "pytorch_model.bin": b"a pickle",
    "modeling_evil.py": b"raise SystemExit",
    "onnx/model.onnx": b"another format",
}


class Hub(BaseHTTPRequestHandler):
    """Answers what the client asks of a Hub: what a model holds, and its files."""

    asked: list[str] = []

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        Hub.asked.append(path)
        if path in ("/api/models/org/small/revision/main", "/api/models/org/small/revision/v1.0"):
            siblings = [{"rfilename": name} for name in FILES]
            said = {
                "id": "org/small",
                "sha": COMMIT,
                "siblings": siblings,
                "private": False,
                "tags": [],
                "downloads": 0,
            }
            return self._send(200, json.dumps(said).encode(), body, {"Content-Type": "application/json"})
        if path == f"/api/models/org/small/tree/{COMMIT}":
            tree = [{"type": "file", "path": name, "size": len(FILES[name]), "oid": COMMIT} for name in FILES]
            return self._send(200, json.dumps(tree).encode(), body, {"Content-Type": "application/json"})
        name = path.removeprefix(f"/org/small/resolve/{COMMIT}/")
        if name in FILES:
            tag = hashlib.sha256(FILES[name]).hexdigest()
            return self._send(200, FILES[name], body, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})
        missing = "RevisionNotFound" if "/api/models/org/small/" in path else "RepoNotFound"
        return self._send(404, b"{}", body, {"X-Error-Code": missing})

    def _send(self, status: int, content: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def resolve(endpoint: str, home: Path, *sources: str, **more: str) -> tuple[list[str], str]:
    """(one line a source: its folder, or the UserError; stderr) of a new process, as the client reads settings once."""
    code = """
import sys
from yuwen.app.loading.sources import resolve
from yuwen.errors import UserError
for source in sys.argv[1:]:
    try:
        print(resolve(source))
    except UserError as error:
        print("UserError:", error)
"""
    keep = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    keep = {key: value for key, value in keep.items() if not key.lower().endswith("_proxy")}
    environment = {**keep, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **more}
    done = subprocess.run(
        [sys.executable, "-c", code, *sources], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout.splitlines(), done.stderr


def test_the_client_fetches_what_a_model_needs_and_nothing_else(endpoint: str, tmp_path: Path) -> None:
    (found, pinned, absent, unknown), said = resolve(
        endpoint, tmp_path, "hf:org/small", "hf:org/small@v1.0", "hf:org/none", "hf:org/small@v9"
    )
    folder = Path(found)
    assert folder.name == COMMIT and pinned == found
    kept = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert kept == {name: content for name, content in FILES.items() if not name.endswith((".bin", ".py", ".onnx"))}
    assert not any(path.endswith((".bin", ".py", ".onnx")) for path in Hub.asked)
    assert f"fetching org/small@main from {endpoint}: config.json" in said
    assert "1_Pooling/config.json" in said and f"in {folder}" in said
    assert absent == f"UserError: hf:org/none: no such model at {endpoint} (or it is private: hf auth login)"
    assert unknown == "UserError: hf:org/small@v9: org/small has no revision v9"
    asked = len(Hub.asked)
    again, _ = resolve(endpoint, tmp_path, "hf:org/small", HF_HUB_OFFLINE="1")
    assert again == [found] and len(Hub.asked) == asked, "offline, the cache serves"
