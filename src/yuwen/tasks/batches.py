"""Work in batches of like size, results in the order of the inputs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

from yuwen.errors import UserError

T = TypeVar("T")
R = TypeVar("R")


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most `size` items. An error in the inputs is raised once what came before it has been handed on."""
    iterator = iter(items)
    while True:
        chunk: list[T] = []
        failure: UserError | None = None
        try:
            for item in iterator:
                chunk.append(item)
                if len(chunk) == size:
                    break
        except UserError as error:
            failure = error
        if chunk:
            yield chunk
        if failure is not None:
            raise failure
        if len(chunk) < size:
            return


def padded_batches(lengths: list[int], budget: int) -> Iterator[list[int]]:
    """Places of items, the shortest first, so many at a time that they fill at most `budget` once padded."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        if batch and lengths[place] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def equal_batches(keys: list[Hashable], size: Callable[[int], int], budget: int) -> Iterator[list[int]]:
    """Places of items that share a key, so many at a time that their sizes fill at most `budget`."""
    groups: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    for places in groups.values():
        count = max(1, budget // max(1, max(map(size, places))))
        for start in range(0, len(places), count):
            yield places[start : start + count]


def in_order(items: list[T], batches: Iterable[list[int]], work: Callable[[list[T]], Iterable[R]]) -> list[R]:
    """Works batch by batch; the results stand where their items stood."""
    results: dict[int, R] = {}
    for places in batches:
        results.update(zip(places, work([items[place] for place in places]), strict=True))
    return [results[place] for place in range(len(items))]
