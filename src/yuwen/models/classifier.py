"""Any body with a head that tells which of some classes a text is: what fine-tuning adds (Devlin et al. 2019, § 3.2).

    text ─ body ─ h_BTD ─ one position ─ (dense, tanh) ─ dropout ─ linear ─> scores_BL

Which position speaks for the text, and what stands before the last linear map, is each published class's own:

    BERT, ALBERT            the pooler of pretraining: tanh(W h_first + b)
    RoBERTa, DistilBERT     a fresh dense layer over h_first, with tanh or relu
    XLNet                   likewise over h_last, where its [CLS] stands
    BART, T5                likewise over the decoder's h_last; the decoder reads the text that the encoder has read
    GPT-2, LLaMA, Qwen …    h_last itself, and a map without bias

A family without a published class (the Transformer of 2017, PaLM, LSTM, RNN) has GPT-2's head, with an encoder over the
states that BART's has, and is stored in our own layout. Padding stands at the right; h_last is that of the last token.
Differences here: dropout falls once, before the last map, with the body's rate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import SerializeAsAny, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from yuwen.config import Config
from yuwen.errors import UserError
from yuwen.models.config import ModelConfig, Reads
from yuwen.models.encoder import Encoder
from yuwen.models.encoder_decoder import EncoderDecoder
from yuwen.models.family import FAMILIES, Model, build, family
from yuwen.models.weights import Entry, Stacked, both
from yuwen.nn import Dropout, Linear, Padding

Speaks = Literal["pooled", "first", "last"]


@dataclasses.dataclass(frozen=True)
class Layout:
    """The published class of a family: which position speaks, and how the weights of its head are called.

    `prefix` stands before the body's names, `dense` is the layer before the last map and `activation` what follows it.
    `constant` are settings of the published class that say the same, and can be no other here.
    """

    architecture: str
    speaks: Speaks
    output: str
    prefix: str = ""
    dense: str | None = None
    activation: Literal["tanh", "relu"] = "tanh"
    bias: bool = True
    constant: Mapping[str, Any] = dataclasses.field(default_factory=dict)


_OUTPUT, _DENSE = "classification_head.out_proj", "classification_head.dense"  # of BART and T5
LAYOUTS: dict[str, Layout] = {
    "bert": Layout("BertForSequenceClassification", "pooled", "classifier", prefix="bert."),
    "albert": Layout("AlbertForSequenceClassification", "pooled", "classifier", prefix="albert."),
    "roberta": Layout(
        "RobertaForSequenceClassification", "first", "classifier.out_proj", prefix="roberta.", dense="classifier.dense"
    ),
    "distilbert": Layout(
        "DistilBertForSequenceClassification",
        "first",
        "classifier",
        prefix="distilbert.",
        dense="pre_classifier",
        activation="relu",
    ),
    "xlnet": Layout(
        "XLNetForSequenceClassification",
        "last",
        "logits_proj",
        prefix="transformer.",
        dense="sequence_summary.summary",
        constant={"summary_type": "last", "summary_use_proj": True, "summary_activation": "tanh"},
    ),
    "bart": Layout("BartForSequenceClassification", "last", _OUTPUT, dense=_DENSE),
    "t5": Layout("T5ForSequenceClassification", "last", _OUTPUT, prefix="transformer.", dense=_DENSE),
    "gemma3_text": Layout("Gemma3TextForSequenceClassification", "last", "score", bias=False),
    **{
        name: Layout(f"{class_}ForSequenceClassification", "last", "score", bias=False)
        for name, class_ in {
            **{"gpt2": "GPT2", "llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"},
            **{"transformer": "Transformer", "palm": "Palm", "lstm": "Lstm", "rnn": "Rnn"},  # ours
        }.items()
    },
}
"""By the body's `MODEL_TYPE`."""


class ClassifierConfig(Config):
    """A body's settings and the names of the classes, in the order of their scores.

    `pad` is the id that fills rows up, which the published classes that look for a last token must know.
    """

    body: SerializeAsAny[ModelConfig]
    labels: tuple[str, ...]
    pad: int | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.body.MODEL_TYPE not in LAYOUTS:
            raise ValueError(f"a {self.body.MODEL_TYPE} has no states to tell classes by: give another family")
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"classes need at least two different labels, not {', '.join(self.labels) or 'none'}")
        return self

    @property
    def layout(self) -> Layout:
        return LAYOUTS[self.body.MODEL_TYPE]

    @property
    def MODEL_TYPE(self) -> str:
        return self.body.MODEL_TYPE

    @property
    def BODY(self) -> str:
        return self.body.BODY

    @property
    def vocabulary(self) -> int:
        return self.body.vocabulary

    @property
    def context(self) -> int:
        return self.body.context

    @property
    def width(self) -> int:
        """Of the body's states."""
        width: int = getattr(self.body, "width")  # noqa: B009 (a counting model has none, but is no body)
        return width

    @property
    def reads(self) -> Reads:
        """How the body reads."""
        return self.body.reads

    @property
    def architecture(self) -> str:
        """The published class that these settings build."""
        return self.layout.architecture

    @property
    def prefix(self) -> str:
        """What stands before the body's published names: nothing where these have it, as beside a head for words."""
        return "" if getattr(self.body, "prefix", "") else self.layout.prefix

    @property
    def words(self) -> bool:
        """Is there a head for hidden words beside the one for classes?"""
        return bool(getattr(self.body, "masked", False))

    @property
    def copies(self) -> Mapping[str, str]:
        """Published names under which files may repeat one of our weights, and our name of it."""
        return {self.prefix + theirs: f"body.{ours}" for theirs, ours in self.body.copies.items()}

    def kept(self, length: int) -> int:
        """Numbers that the backward pass keeps of each position: the body's."""
        return self.body.kept(length)

    def published(self) -> dict[str, Any]:
        """The same settings as the class's `config.json`."""
        values = self.body.published()
        return {
            **values,
            "architectures": [self.architecture, *([self.body.architecture] if self.words else [])],
            "id2label": {str(number): label for number, label in enumerate(self.labels)},
            "label2id": {label: number for number, label in enumerate(self.labels)},
            "pad_token_id": self.pad if values.get("pad_token_id") is None else values["pad_token_id"],
        }


class Classifier(nn.Module):
    """A body and its head: `classify(ids_BT, keep_BT, segments_BT) -> scores_BL`, a label's index its place in
    `config.labels`. `body` is a model like any other, without the head it was pretrained with unless that is trained
    on (`body_config`)."""

    def __init__(self, config: ClassifierConfig, body: Model) -> None:
        super().__init__()
        self.config, self.body = config, body
        layout, width = config.layout, config.width
        self.dense = nn.Identity() if layout.dense is None else Dense(width, layout.activation)
        self.dropout = Dropout(getattr(config.body, "dropout", 0.0))
        self.output = Linear(width, len(config.labels), bias=layout.bias)

    def forward(self, ids_BT: Tensor, keep_BT: Tensor | None = None, segments_BT: Tensor | None = None) -> Tensor:
        """The same as `classify`."""
        return self.classify(ids_BT, keep_BT, segments_BT)

    def classify(self, ids_BT: Tensor, keep_BT: Tensor | None = None, segments_BT: Tensor | None = None) -> Tensor:
        """Scores of the classes, [B, L]. `keep_BT` is True where a token stands (default: everywhere), padding at the
        right; `segments_BT` tells the second text (1) from the first (0), where the body has segments."""
        h_BTD = self.states(ids_BT, keep_BT, segments_BT)
        return self.output(self.dropout(self.dense(_SPEAKS[self.config.layout.speaks](self.body, h_BTD, keep_BT))))

    def states(self, ids_BT: Tensor, keep_BT: Tensor | None = None, segments_BT: Tensor | None = None) -> Tensor:
        """What the body makes of the texts, [B, T, D]."""
        h_BTD: Tensor = _STATES[self.config.reads](self.body, ids_BT, keep_BT, segments_BT)
        return h_BTD


class Dense(nn.Module):
    """f(W x + b). [B, D] -> [B, D]."""

    def __init__(self, width: int, activation: Literal["tanh", "relu"]) -> None:
        super().__init__()
        self.linear = Linear(width, width)
        self.activation = {"tanh": torch.tanh, "relu": torch.relu}[activation]

    def forward(self, x_BD: Tensor) -> Tensor:
        return self.activation(self.linear(x_BD))


def _forwards(body: Any, ids_BT: Tensor, keep_BT: Tensor | None, segments_BT: Tensor | None) -> Tensor:
    return body(ids_BT)  # padding at the right is never looked at


def _both(body: Encoder, ids_BT: Tensor, keep_BT: Tensor | None, segments_BT: Tensor | None) -> Tensor:
    tells = body.segments is not None and len(body.segments.weight) > 1
    return body(ids_BT, None if keep_BT is None else Padding(keep_BT), None, segments_BT if tells else None)


def _permuted(body: Encoder, ids_BT: Tensor, keep_BT: Tensor | None, segments_BT: Tensor | None) -> Tensor:
    return body(ids_BT, None if keep_BT is None else Padding(keep_BT), None, segments_BT)


def _pairs(body: EncoderDecoder, ids_BT: Tensor, keep_BT: Tensor | None, segments_BT: Tensor | None) -> Tensor:
    """The text again as a target: behind the start token, and without its last."""
    start_B1 = torch.full_like(ids_BT[:, :1], body.start_id)
    return body(ids_BT, torch.cat((start_B1, ids_BT[:, :-1]), dim=1), None if keep_BT is None else Padding(keep_BT))


_STATES: dict[Reads, Any] = {"forwards": _forwards, "both": _both, "permuted": _permuted, "pairs": _pairs}


def _last(body: Any, h_BTD: Tensor, keep_BT: Tensor | None) -> Tensor:
    if keep_BT is None:
        return h_BTD[:, -1]
    rows_B = torch.arange(len(h_BTD), device=h_BTD.device)
    return h_BTD[rows_B, keep_BT.sum(1) - 1]


_SPEAKS: dict[Speaks, Any] = {
    "pooled": lambda body, h_BTD, keep_BT: body.pooled(h_BTD),
    "first": lambda body, h_BTD, keep_BT: h_BTD[:, 0],
    "last": _last,
}


def body_config(config: ModelConfig, *, words: bool = False) -> ModelConfig:
    """The settings of a model as a classifier's body: without the heads it was pretrained with, but for an encoder's
    head for hidden `words`."""
    layout = LAYOUTS.get(config.MODEL_TYPE)
    wanted = {
        **dict.fromkeys(("masked", "next_sentence", "sentence_order", "head_bias"), False),
        "masked": words,
        "pooler": layout is not None and layout.speaks == "pooled",
    }
    if "masked" not in type(config).model_fields:
        wanted["tied"] = True  # a head that is the embedding's own table adds no weights
    return config.model_copy(
        update={name: value for name, value in wanted.items() if name in type(config).model_fields}
    )


def build_classifier(config: ClassifierConfig, generator: torch.Generator | None = None) -> Classifier:
    """A classifier with fresh weights, drawn from `generator`: the head's normal(0, 0.02), its biases zero."""
    model = Classifier(config, build(config.body, generator))
    with torch.no_grad():
        for module in (model.dense, model.output):
            for name, weight in module.named_parameters():
                if not weight.is_meta:
                    weight.zero_() if name.endswith("bias") else weight.normal_(0.0, 0.02, generator=generator)
    return model


def on_body(
    model: Model | Classifier,
    labels: Sequence[str],
    generator: torch.Generator | None = None,
    *,
    pad: int | None = None,
    words: bool = False,
    changes: Mapping[str, Any] | None = None,
) -> tuple[Classifier, list[str]]:
    """A classifier whose body has a pretrained model's weights, and the names of its parts that are fresh.

    With `words` it also has the head for hidden words. `changes` are settings of the body that its weights leave open,
    such as dropout. The weights are copied. UserError for a family that cannot be a body.
    """
    body = model.body if isinstance(model, Classifier) else model
    settings = body_config(body.config, words=words)
    if changes:
        settings = type(settings).parse("model", {**settings.model_dump(), **changes})
    config = ClassifierConfig.parse("model", {"body": settings, "labels": tuple(labels), "pad": pad})
    classifier = build_classifier(config, generator)
    known = body.state_dict()
    own = dict(classifier.body.named_parameters())  # each once: an untied head must not be put in the embedding's place
    with torch.no_grad():
        for name, weight in own.items():
            if name in known:
                weight.copy_(known[name])
    fresh = [name.rpartition(".")[0] for name in own if name not in known]
    fresh += [name for name in ("dense", "output") if any(True for _ in getattr(classifier, name).parameters())]
    return classifier, list(dict.fromkeys(fresh))


def shell(model: Model | Classifier) -> Model | Classifier:
    """A model of the same shape without memory, on PyTorch's meta device."""
    with torch.device("meta"):
        return build_classifier(model.config) if isinstance(model, Classifier) else build(model.config)


def weights(config: ClassifierConfig) -> list[Entry]:
    """Our names and the published ones."""
    layout = config.layout
    entries: list[Entry] = []
    for entry in family(config.MODEL_TYPE).weights(config.body):
        theirs = config.prefix + entry.theirs
        if isinstance(entry, Stacked):
            entries.append(dataclasses.replace(entry, ours=tuple(f"body.{n}" for n in entry.ours), theirs=theirs))
        else:
            entries.append(dataclasses.replace(entry, ours=f"body.{entry.ours}", theirs=theirs))
    if layout.dense is not None:
        entries += both("dense.linear", layout.dense)
    head = both("output", layout.output)
    return [*entries, *(head if layout.bias else head[:1])]


def classifier_config(values: Mapping[str, Any], where: str) -> ClassifierConfig | None:
    """Settings from a published `config.json`, if its `architectures` name a class of sequences; else None.

    A head with a single output tells no class but a score: None. UserError for settings that make no sense.
    """
    kind = next((f.config for f in FAMILIES.values() if values.get("model_type") in f.config.model_types()), None)
    named = values.get("architectures")
    layout = None if kind is None else LAYOUTS.get(kind.MODEL_TYPE)
    if kind is None or layout is None or not isinstance(named, list) or layout.architecture not in named:
        return None
    labels = _labels(values, where)
    if len(labels) < 2:
        return None
    if values.get("problem_type") not in (None, "single_label_classification"):
        raise UserError(f"{where}: problem_type={values['problem_type']!r} is not supported: only one label for a text")
    without = {"num_labels", *kind.MOVED}  # the one is told by the labels, and nobody writes with such a head
    known = {key: value for key, value in values.items() if key not in without}
    for key, ours in layout.constant.items():
        if values.get(key, ours) != ours:
            raise UserError(f"{where}: {key}={values[key]!r} is not supported for {kind.MODEL_TYPE} (only {ours!r})")
    body = kind.from_published(known, where)
    pad = values.get("pad_token_id")
    settings = body_config(body, words=getattr(body, "masked", False))  # where architectures names that class, too
    return ClassifierConfig.parse(where, {"body": settings, "labels": labels, "pad": pad})


def _labels(values: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """Names of the classes by their numbers; two without names where nothing is said, as published."""
    named = values.get("id2label")
    if named is None:
        number = values.get("num_labels", 2)
        if not isinstance(number, int) or isinstance(number, bool) or not 0 < number <= 1_000_000:
            raise UserError(f"{where}: num_labels={number!r} is not a number of classes")
        return tuple(f"LABEL_{n}" for n in range(number))
    names = [named.get(str(n)) for n in range(len(named))] if isinstance(named, dict) else [None]
    if not all(isinstance(name, str) for name in names):
        raise UserError(f"{where}: id2label must name the classes 0, 1, 2 …")
    return tuple(str(name) for name in names)
