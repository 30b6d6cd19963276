"""Small encoders for the folder tests, and how transformers opens them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from yuwen.models import Encoder, build, parse_config

V = 360  # the most ids the tests' tokenizer can have

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", {}),
    "bert-words": ("bert", {"pooler": False, "next_sentence": False}),
    "bert-sentences": ("bert", {"masked": False}),
    "bert-body": ("bert", {"masked": False, "next_sentence": False}),
    "bert-untied": ("bert", {"tied": False}),
    "roberta": ("roberta", {}),
    "roberta-body": ("roberta", {"masked": False, "pooler": True, "segments": 2}),
    "roberta-untied": ("roberta", {"tied": False, "padding": 3}),
    "distilbert": ("distilbert", {}),
    "distilbert-body": ("distilbert", {"masked": False}),
    "distilbert-untied": ("distilbert", {"tied": False}),
    "albert": ("albert", {"embedding_width": 16}),
    "albert-words": ("albert", {"embedding_width": 16, "pooler": False, "sentence_order": False}),
    "albert-body": ("albert", {"embedding_width": 16, "masked": False, "sentence_order": False}),
    "albert-groups-untied": ("albert", {"embedding_width": 16, "layers": 4, "groups": 2, "inner": 2, "tied": False}),
    "xlnet": ("xlnet", {}),
    "xlnet-body": ("xlnet", {"masked": False}),
    "xlnet-untied": ("xlnet", {"tied": False}),
}


def small_encoder(case: str, **values: Any) -> Encoder:
    name, shape = CASES[case]
    common = {"vocabulary": V, "context": 64, "layers": 2, "width": 32, "heads": 4}
    generator = torch.Generator().manual_seed(1)
    model = build(parse_config(name, {**common, **shape, **values}), generator).eval()
    assert isinstance(model, Encoder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def their_encoder(case: str, kind: str | None = None) -> Any:
    """A model that transformers made up by itself, of the case's own class or of another `kind`."""
    torch.manual_seed(2)
    config = small_encoder(case).config
    published = {**config.published(), "bos_token_id": None, "eos_token_id": None}
    settings = transformers.AutoConfig.for_model(**published)
    return getattr(transformers, kind or config.architecture)(settings).eval()


def opened(folder: Path, name: str, **options: Any) -> Any:
    """The folder as the class of that name in transformers."""
    return getattr(transformers, name).from_pretrained(folder, **options).eval()


def random_ids(*shape: int) -> Tensor:
    return torch.randint(5, V, shape, generator=torch.Generator().manual_seed(0))


def heads(model: Encoder, ids: Tensor) -> dict[str, Tensor]:
    """Hidden states, and what every head says."""
    asked = {
        "masked": model.output,
        "pooler": model.pooled,
        "next_sentence": model.next_sentence,
        "sentence_order": model.sentence_order,
    }
    with torch.no_grad():
        h = model(ids)
        return {"hidden": h, **{name: asked[name](h) for name in sorted(model.heads)}}


def their_heads(model: Any, ids: Tensor) -> dict[str, Tensor]:
    """The same from transformers."""
    with torch.no_grad():
        body, out = model.base_model(ids), model(ids)
    found = {"hidden": body.last_hidden_state, "pooler": getattr(body, "pooler_output", None)}
    kind = type(model).__name__
    if kind == "AlbertForPreTraining":
        found |= {"masked": out.prediction_logits, "sentence_order": out.sop_logits}
    elif kind.endswith("ForPreTraining"):
        found |= {"masked": out.prediction_logits, "next_sentence": out.seq_relationship_logits}
    elif kind.endswith(("ForMaskedLM", "LMHeadModel")):
        found["masked"] = out.logits
    elif kind.endswith("ForNextSentencePrediction"):
        found["next_sentence"] = out.logits
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=0)


def renamed(folder: Path, rename: Any) -> None:
    """Gives every weight of a folder another name; None leaves it out."""
    path = folder / "model.safetensors"
    weights = {rename(name): tensor for name, tensor in load_file(path).items()}
    save_file({name: tensor for name, tensor in weights.items() if name is not None}, path)
