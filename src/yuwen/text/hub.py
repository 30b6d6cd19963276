"""hf:org/name[:config][:split] → local data files, by the Hub's own client. Only data is fetched, never code."""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import json
import re
from pathlib import Path
from typing import Any

from yuwen.config import nearest
from yuwen.disk import cache_folder, replace_text
from yuwen.errors import UserError
from yuwen.text.file import natural
from yuwen.text.problem import notice

_DATA = re.compile(r".*\.(txt|jsonl|ndjson|json|csv|tsv|parquet)(\.gz|\.zst)?$", re.IGNORECASE)
_NOT_DATA = re.compile(r"(^|/)(\.|README|LICENSE|dataset_infos?\.json|requirements\.txt)")
_SPLITS = {"train": "train", "training": "train", "valid": "validation", "validation": "validation"}
_SPLITS |= {"val": "validation", "dev": "validation", "test": "test", "eval": "test"}

Table = dict[str, dict[str, list[str]]]  # config → split → files


@functools.cache
def fetch(source: str) -> tuple[tuple[Path, str], ...]:
    """(local path, name for messages) of the files of a dataset's split, fetched or found in the Hub's cache.

    Asked once in the life of a process, so that every pass over the data reads the same, whatever is pushed meanwhile.
    Without a split it is `train`; without a config the default one. Honours HF_ENDPOINT, HF_HUB_OFFLINE and HF_TOKEN.
    Raises UserError if the repository, the config or the split is not there, or cannot be reached.
    """
    repository, *parts = source.removeprefix("hf:").split(":")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repository) or len(parts) > 2:
        raise UserError(f"{source}: not a dataset's name; write hf:org/name[:config][:split]")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    def download(name: str) -> Path:
        return Path(hf_hub_download(repository, name, repo_type="dataset"))

    try:
        names = _list(repository)
        card = _card(download("README.md")) if "README.md" in names else []
        chosen = choose(source, table([name for name in names if is_data(name)], card), parts)
        notice(f"{source}: fetching {', '.join(chosen[:5])}{f' and {len(chosen) - 5} more' if len(chosen) > 5 else ''}")
        return tuple((download(name), f"hf:{repository}/{name}") for name in chosen)
    except LocalEntryNotFoundError:
        what = "not in the local cache, and the Hub is out of reach or switched off (HF_HUB_OFFLINE)"
        raise UserError(f"{source}: {what}; fetch it once with a connection, or check HF_ENDPOINT") from None
    except (HfHubHTTPError, HFValidationError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"{source}: {first}; check the name, and HF_TOKEN if the dataset is private") from None
    except Exception as error:
        if not disconnected(error):
            raise
        raise UserError(f"{source}: cannot be fetched: {error}; check the connection and HF_ENDPOINT") from None


def disconnected(error: Exception) -> bool:
    """No connection, or one that was lost. The Hub's client has changed its HTTP library more than once, and lets that
    library's errors through."""
    return isinstance(error, OSError) or type(error).__module__.split(".")[0] in ("httpx", "httpx2")


def is_data(name: str) -> bool:
    return bool(_DATA.match(name)) and not _NOT_DATA.search(name)


def table(names: list[str], card: list[dict[str, Any]]) -> Table:
    """Which files make which split of which config: as the dataset's card says, else as the files are named."""
    found: Table = {}
    for entry in card:
        splits = found.setdefault(str(entry.get("config_name", "default")), {})
        inside = f"{entry['data_dir'].strip('/')}/" if entry.get("data_dir") else ""
        for files in _listed(entry.get("data_files", [])):
            split, path = ("train", files) if isinstance(files, str) else (files["split"], files["path"])
            matched = [name for name in names if any(_matches(name, inside + pattern) for pattern in _listed(path))]
            if matched:
                splits.setdefault(str(split), []).extend(matched)
    if any(found.values()):
        return {name: splits for name, splits in found.items() if splits}
    found = {}
    for name in names:
        folders = [folder for folder in name.split("/")[:-1] if folder != "data" and folder not in _SPLITS]
        config = folders[0] if folders else "default"
        found.setdefault(config, {}).setdefault(_split(name), []).append(name)
    return found


def choose(source: str, found: Table, parts: list[str]) -> list[str]:
    """The files that `parts` ([], [config or split], [config, split]) name. Raises UserError if they name none."""
    if not found:
        raise UserError(
            f"{source}: the dataset has no files that can be read (txt, json, csv, parquet); choose another"
        )
    if len(parts) == 2 or (parts and parts[0] in found):
        config = parts[0]
        parts = parts[1:]
    else:
        config = "default" if "default" in found else next(iter(found))
        if len(found) > 1 and "default" not in found:
            raise UserError(f"{source}: the dataset has several configs; name one: {', '.join(sorted(found))}")
    if config not in found:
        raise UserError(f"{source}: no config {config}; {nearest(config, list(found))}")
    splits = found[config]
    split = parts[0] if parts else "train" if "train" in splits else next(iter(splits))
    if not parts and len(splits) > 1 and split != "train":
        raise UserError(f"{source}: the dataset has no split train; name one: {', '.join(sorted(splits))}")
    if split not in splits:
        split = _SPLITS.get(split, split)
    if split not in splits:
        raise UserError(f"{source}: no split {split}; {nearest(split, list(splits))}")
    return splits[split]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _split(name: str) -> str:
    """The split that a file's name speaks of; train if of none."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((_SPLITS[word] for word in reversed(words) if word in _SPLITS), "train")


def _matches(name: str, pattern: str) -> bool:
    """Whether a pattern of a card means a file: `*` stays within a folder, `**` is any number of them."""
    return _fits(name.split("/"), pattern.removeprefix("./").split("/"))


def _fits(parts: list[str], shapes: list[str]) -> bool:
    if not shapes:
        return not parts
    if shapes[0] == "**":
        return any(_fits(parts[n:], shapes[1:]) for n in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], shapes[0]) and _fits(parts[1:], shapes[1:])


def _card(path: Path) -> list[dict[str, Any]]:
    from huggingface_hub.repocard import metadata_load

    return (metadata_load(path) or {}).get("configs") or []


def _list(repository: str) -> list[str]:
    from huggingface_hub import HfApi, constants, snapshot_download

    kept = cache_folder() / "hub" / f"{repository.replace('/', '--')}.json"
    if not constants.HF_HUB_OFFLINE:
        names = sorted(HfApi().list_repo_files(repository, repo_type="dataset"), key=natural)
        with contextlib.suppress(OSError):  # without it the cache is believed to be whole
            kept.parent.mkdir(parents=True, exist_ok=True)
            replace_text(kept, json.dumps(names))
        return names
    with contextlib.suppress(OSError, ValueError):  # so that a split whose fetching broke off is not taken for whole
        return list(json.loads(kept.read_text(encoding="utf-8")))
    folder = Path(snapshot_download(repository, repo_type="dataset", local_files_only=True))
    there = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(there, key=natural)
