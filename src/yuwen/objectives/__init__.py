"""What a model learns from: each objective prepares a batch from samples and turns the model's output into a loss.

causal            each token from those before it                          left to right
prefix            what follows a prefix read from both sides               left to right, encoder–decoders
masked            hidden words from both sides                             encoders
next_sentence     … and whether the second sentence follows                encoders
sentence_order    … and which of two sentences came first                  encoders
permuted          tokens in any order, from any others                     permuted (XLNet)
span              stretches cut out of a text                              encoder–decoders
denoising         a text from its damaged copy                             encoder–decoders
seq2seq           a target from its source                                 encoder–decoders, rows
contrastive       like sentences close, others apart                       encoders, permuted, rows
classify          which class a text is of                                 models.Classifier on any body, rows
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator, Tag

from yuwen.data.framing import Frame
from yuwen.errors import UserError
from yuwen.objectives.causal import CausalConfig, CausalObjective
from yuwen.objectives.classify import ClassifyConfig, ClassifyObjective
from yuwen.objectives.contrastive import ContrastiveConfig, ContrastiveObjective
from yuwen.objectives.denoising import DenoisingConfig, DenoisingObjective
from yuwen.objectives.masked import MaskedConfig, MaskedObjective
from yuwen.objectives.next_sentence import NextSentenceConfig, NextSentenceObjective
from yuwen.objectives.objective import Batch, Objective, Term, Together
from yuwen.objectives.permuted import PermutedConfig, PermutedObjective
from yuwen.objectives.prefix import PrefixConfig, PrefixObjective, PrefixPairsObjective
from yuwen.objectives.sentence_order import SentenceOrderConfig, SentenceOrderObjective
from yuwen.objectives.seq2seq import Seq2SeqConfig, Seq2SeqObjective
from yuwen.objectives.span import SpanConfig, SpanObjective
from yuwen.objectives.vocabulary import SPECIAL_TOKENS, Vocabulary, special_tokens

if TYPE_CHECKING:
    from yuwen.models.config import Reads
    from yuwen.tokens import Tokenizer

__all__ = [
    "OBJECTIVES",
    "SPECIAL_TOKENS",
    "Batch",
    "CausalConfig",
    "CausalObjective",
    "ClassifyConfig",
    "ClassifyObjective",
    "Objective",
    "ObjectiveConfig",
    "Term",
    "Together",
    "Vocabulary",
    "build_objective",
    "class_of",
    "special_tokens",
    "trains",
]


def _name(value: Any) -> Any:
    """Which objective settings speak of: causal where they do not say."""
    return value.get("name", "causal") if isinstance(value, Mapping) else getattr(value, "name", None)


ObjectiveConfig = Annotated[
    Annotated[CausalConfig, Tag("causal")]
    | Annotated[PrefixConfig, Tag("prefix")]
    | Annotated[MaskedConfig, Tag("masked")]
    | Annotated[NextSentenceConfig, Tag("next_sentence")]
    | Annotated[SentenceOrderConfig, Tag("sentence_order")]
    | Annotated[PermutedConfig, Tag("permuted")]
    | Annotated[SpanConfig, Tag("span")]
    | Annotated[DenoisingConfig, Tag("denoising")]
    | Annotated[Seq2SeqConfig, Tag("seq2seq")]
    | Annotated[ContrastiveConfig, Tag("contrastive")]
    | Annotated[ClassifyConfig, Tag("classify")],
    Discriminator(_name),
]

# By name: the classes that learn so, one for each kind of model that needs one of its own.
OBJECTIVES: dict[str, Sequence[type[Objective]]] = {
    "causal": (CausalObjective,),
    "prefix": (PrefixObjective, PrefixPairsObjective),
    "masked": (MaskedObjective,),
    "next_sentence": (NextSentenceObjective,),
    "sentence_order": (SentenceOrderObjective,),
    "permuted": (PermutedObjective,),
    "span": (SpanObjective,),
    "denoising": (DenoisingObjective,),
    "seq2seq": (Seq2SeqObjective,),
    "contrastive": (ContrastiveObjective,),
    "classify": (ClassifyObjective,),
}

_NEEDS: dict[type[Objective], Callable[[Tokenizer, Reads], tuple[Any, ...]]] = {
    CausalObjective: lambda tokenizer, reads: (tokenizer.size,),
    ContrastiveObjective: lambda tokenizer, reads: (Frame.of(tokenizer, reads),),
    ClassifyObjective: lambda tokenizer, reads: (Frame.of(tokenizer, reads), Vocabulary.of(tokenizer)),
}


def trains(name: str, reads: Reads) -> type[Objective] | None:
    """The class of that objective for a model that reads so; None if it cannot train one."""
    return next((kind for kind in OBJECTIVES[name] if reads in kind.reads), None)


def class_of(name: str, reads: Reads, *, length: int | None = None, model: str = "this model") -> type[Objective]:
    """The same, for samples of `data.length` ids. UserError if it cannot train such a model (`model` is what to call
    it), or if that length has no room for what it makes of a text."""
    kind = trains(name, reads)
    if kind is None:
        fitting = ", ".join(other for other in OBJECTIVES if trains(other, reads))
        raise UserError(f"objective.name={name} cannot train {model}, which reads {_READS[reads]}: use {fitting}")
    if length is not None and length < kind.least:
        raise UserError(f"data.length={length} is too short for objective.name={name}: it needs at least {kind.least}")
    return kind


def build_objective(config: Any, tokenizer: Tokenizer, reads: Reads) -> Objective:
    """The objective of these settings, for a model that reads so. UserError if it cannot train such a model, or if the
    tokenizer lacks a special token that it needs."""
    kind: Any = class_of(config.name, reads)
    needs = _NEEDS.get(kind, lambda tokenizer, reads: (Vocabulary.of(tokenizer),))
    objective: Objective = kind(config, *needs(tokenizer, reads))
    return objective


_READS: dict[Reads, str] = {
    "forwards": "from left to right",
    "both": "from both sides",
    "permuted": "in any order",
    "pairs": "one text to write another",
}
