"""Random models that differ clearly in what they score, ready for a task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers
from torch import Tensor

from yuwen.models import build, parse_config
from yuwen.models.inference import inference
from yuwen.nn import Padding
from yuwen.tokens import Tokenizer

TEXT = (
    "从前有座山，山里有座庙，庙里有个老和尚在给小和尚讲故事。\n"
    "The quick brown fox jumps over the lazy dog; Alice and Bob sleep on in Paris.\n"
    "Text: a good film\nLabel: positive\nText: a bad one\nLabel: negative\n"
    "文本：这家酒店很好\n类别：正面\n文本：太差了\n类别：负面\n"
) * 20

WORDS = "the quick brown fox jumps over a lazy dog alice bob in paris 庙 里 有 山 和 尚 , . ! ##s ##ing film good bad"


@dataclass(frozen=True)
class Ready:
    """What tasks ask of a loaded model."""

    model: Any
    tokenizer: Tokenizer | None
    encoder: bool = False
    chat: bool = False
    path: Path = Path("model")
    classifier: Any = None

    @property
    def family(self) -> str:
        return self.model.config.MODEL_TYPE

    @property
    def end_ids(self) -> list[int]:
        return [] if self.tokenizer is None else sorted(self.tokenizer.stop_ids)

    def hidden(self, ids_BT: Any, keep: Any = None) -> Tensor:
        with inference(self.model):
            mask = None if keep is None or not self.encoder else Padding(torch.as_tensor(keep))
            return self.model(torch.as_tensor(ids_BT), mask)


def random_model(family: str, vocabulary: int, context: int, seed: int) -> Any:
    values = {"vocabulary": vocabulary, "context": context, "layers": 2, "width": 32, "heads": 4}
    generator = torch.Generator().manual_seed(seed)
    model = build(parse_config(family, values), generator).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


def decoder(tokenizer: Tokenizer, family: str = "llama", *, chat: bool = False, context: int = 512) -> Ready:
    return Ready(random_model(family, tokenizer.size, context, seed=0), tokenizer, chat=chat)


def word_tokenizer() -> Tokenizer:
    """A small uncased WordPiece vocabulary, as BERT's."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: id for id, word in enumerate([*specials, *WORDS.split()])}
    backend = Backend(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(specials)
    roles = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return Tokenizer(backend, dict(zip(roles, specials, strict=True)))


def encoder(context: int = 64, family: str = "bert") -> Ready:
    tokenizer = word_tokenizer()
    return Ready(random_model(family, tokenizer.size, context, seed=1), tokenizer, encoder=True)
