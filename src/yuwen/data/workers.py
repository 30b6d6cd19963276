"""Processes that encode batches; results come back in order.

A worker is a fresh interpreter that talks over its pipes. Unlike a forked or spawned child it inherits no threads,
does not import the user's script again, and ends by itself when its parent is killed, since its input then ends.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from yuwen.data.encode import Batch, Encoded, Encoder
from yuwen.errors import UserError
from yuwen.tokens import Tokenizer

_SMALL = 1 << 23  # characters encoded in this process before others are started


def encode(batches: Iterator[Batch], encoder: Encoder, workers: int) -> Generator[tuple[Batch, Encoded], None, None]:
    """Encodes batches, in their order; only what is left of a corpus after 8 million characters starts `workers`."""
    characters = 0
    for batch in batches:
        yield batch, encoder(batch)
        characters += sum(map(len, batch.texts))
        if characters > _SMALL and workers > 1:
            break
    else:
        return
    with Workers(encoder, workers) as pool:
        waiting: deque[tuple[Batch, Future[Encoded]]] = deque()
        for batch in batches:
            waiting.append((batch, pool.submit(batch)))
            if len(waiting) > 4 * workers:
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())


class Workers:
    """A pool of `count` processes; one thread each passes batches to them and waits for the answers."""

    def __init__(self, encoder: Encoder, count: int) -> None:
        code = f"import sys; sys.path[:] = {sys.path!r}; from yuwen.data.workers import serve; serve()"
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}  # the processes are the parallelism
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
            )
            for _ in range(count)
        ]
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(count)
        setup = pickle.dumps((_packed(encoder.tokenizer), encoder.config, encoder.words))
        for process in self._processes:
            self._threads.submit(self._greet, process, setup)

    def submit(self, batch: Batch) -> Future[Encoded]:
        return self._threads.submit(self._encode, batch)

    def _greet(self, process: subprocess.Popen[bytes], setup: bytes) -> None:
        assert process.stdin
        with contextlib.suppress(BrokenPipeError):  # met again, and reported, with the first batch
            process.stdin.write(setup)
        self._idle.put(process)

    def _encode(self, batch: Batch) -> Encoded:
        process = self._idle.get()
        assert process.stdin and process.stdout
        try:
            pickle.dump(batch, process.stdin, pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            answer = pickle.load(process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            raise UserError(
                f"a process that prepared data ended unexpectedly (status {process.wait()}), "
                "perhaps for want of memory; try again with fewer workers"
            ) from None
        finally:
            self._idle.put(process)  # a dead one too: its error is better than waiting for ever
        if isinstance(answer, Exception):
            raise answer
        return answer

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.kill()
        self._threads.shutdown()  # their reads have ended now
        for process in self._processes:
            process.communicate()


def serve() -> None:
    """A worker's life: the tokenizer and the settings, then batches, until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    files, config, words = pickle.load(source)
    encoder = Encoder(_unpacked(files), config, words)
    while True:
        try:
            batch = pickle.load(source)
        except EOFError:
            return
        try:
            answer: Encoded | Exception = encoder(batch)
        except UserError as error:
            answer = error
        except Exception:
            answer = RuntimeError(f"a worker failed:\n{traceback.format_exc()}")
        pickle.dump(answer, sink, pickle.HIGHEST_PROTOCOL)
        sink.flush()


def _packed(tokenizer: Tokenizer) -> dict[str, bytes]:
    """A tokenizer as its files, since what it saves is what it promises to keep."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _unpacked(files: dict[str, bytes]) -> Tokenizer:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        return Tokenizer.load(folder)


def _result(batch: Batch, future: Future[Encoded]) -> tuple[Batch, Encoded]:
    return batch, future.result()
