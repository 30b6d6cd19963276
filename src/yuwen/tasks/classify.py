"""Which of the labels fits a text: by what a decoder expects to follow, an encoder's geometry, or a trained head.

The first two need no training.

A decoder is asked how likely each label is after the prompt (Brown et al. 2020, section 2.4):

    s_k = 1/m_k  sum_j log p(l_kj | prompt(x), l_k<j)      label k has the m_k tokens l_k1 … l_km
    p_k = exp(s_k) / sum_i exp(s_i)

The mean over tokens (`normalise="mean"`) keeps long labels from losing because they are long; `"sum"` is the label's
probability itself, the right one where labels are equally long or calibration divides their lengths out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yuwen.errors import UserError
from yuwen.models.inference import refuse_not_finite
from yuwen.tasks.batches import chunks
from yuwen.tasks.calibrate import CONTENT_FREE, calibrate, prior
from yuwen.tasks.centroids import classify_by_centroids
from yuwen.tasks.contract import Input, Pooling, Usable, documents, need_decoder, place, refuse
from yuwen.tasks.ids import fits, with_answers
from yuwen.tasks.language import known
from yuwen.tasks.prompts import Prompt, language_for
from yuwen.tasks.reading import log_probabilities
from yuwen.tasks.shots import Example, choose, examples, labels_of
from yuwen.tasks.trained import classify_by_head
from yuwen.text import Document

_CHUNK = 512  # the more inputs are at hand, the more of them share a length and are read together
NORMALISE = ("mean", "sum")


def classify(
    loaded: Usable,
    inputs: Iterable[Input],
    *,
    labels: Sequence[str] | None = None,
    shots: Iterable[Document] | None = None,
    per_class: int | None = None,
    seed: int | None = None,
    calibration: bool | None = None,
    normalise: str | None = None,
    raw: bool | None = None,
    prompt: str | Path | None = None,
    language: str | None = None,
    pooling: Pooling | None = None,
    blend: float | None = None,
    label_prompt: str | Path | None = None,
) -> Iterator[dict[str, Any]]:
    """`input`, `label`, and `scores`: the probability of every label.

    `shots` are rows with text and label: examples in a decoder's prompt, class centroids for an encoder. Of them
    `per_class` (default: all) are taken by `seed` (0). For decoders: `calibration` (on), `normalise` ("mean"), `raw`
    (no chat template), `prompt`, `language`. For encoders: `pooling`, `blend` (how much of the label's own embedding
    against the examples'), `label_prompt`. A model with a head of its own for classes, fine-tuned here or elsewhere,
    answers with that and takes none of these. What the model's kind would ignore raises UserError.
    """
    if loaded.classifier is not None:
        kind = f"a model trained to tell {', '.join(loaded.classifier.config.labels[:5])}"
        refuse("classify", kind, labels=labels, shots=shots, per_class=per_class, seed=seed, calibration=calibration)
        refuse("classify", kind, normalise=normalise, raw=raw, prompt=prompt, language=language, pooling=pooling)
        refuse("classify", kind, blend=blend, label_prompt=label_prompt)
        return classify_by_head(loaded, loaded.classifier, inputs)
    if shots is None:
        refuse("classify", "a task without shots", per_class=per_class, seed=seed)
    if per_class is None:
        refuse("classify", "shots that are all taken (no per_class)", seed=seed)
    found = [] if shots is None else choose(examples(shots, labels), per_class, seed or 0)
    names = labels_of(labels, found)
    if loaded.encoder:
        refuse("classify", "an encoder", calibration=calibration, normalise=normalise, raw=raw, prompt=prompt)
        refuse("classify", "an encoder", language=language)
        return classify_by_centroids(
            loaded, inputs, names, found, pooling=pooling, blend=blend, label_prompt=label_prompt
        )
    need_decoder(loaded, "classify")
    refuse("classify", "a decoder", pooling=pooling, blend=blend, label_prompt=label_prompt)
    if (normalise or "mean") not in NORMALISE:
        raise UserError(f"normalise={normalise!r} is not one of {', '.join(NORMALISE)}")
    scorer = Scorer(
        loaded,
        names,
        found,
        Prompt.of("classify", prompt),
        mean=normalise != "sum",
        raw=bool(raw),
        language=known(language),
        calibrated=calibration is not False,
    )
    return _classify(scorer, inputs)


def _classify(scorer: Scorer, inputs: Iterable[Input]) -> Iterator[dict[str, Any]]:
    prepared = (scorer.prepare(document.text, place(document)) for document in documents(inputs))
    for chunk in chunks(prepared, _CHUNK):
        for item, probabilities_K in zip(chunk, scorer(chunk), strict=True):
            yield _row(item.text, scorer.labels, probabilities_K)


def _row(text: str, labels: Sequence[str], probabilities_K: np.ndarray) -> dict[str, Any]:
    scores = dict(zip(labels, probabilities_K.tolist(), strict=True))
    return {"input": text, "label": labels[int(probabilities_K.argmax())], "scores": scores}


@dataclass(frozen=True)
class Asked:
    """An input as the decoder reads it: the prompt's ids, and those of every label behind it."""

    text: str
    language: str
    ids: list[int]
    labels: list[list[int]]


class Scorer:
    """Label probabilities by a decoder, for one set of labels, examples and prompt."""

    def __init__(
        self,
        loaded: Usable,
        labels: Sequence[str],
        shots: Sequence[Example],
        prompt: Prompt,
        *,
        mean: bool,
        raw: bool,
        language: str | None,
        calibrated: bool,
    ) -> None:
        self.loaded, self.labels, self.shots, self.prompt = loaded, list(labels), list(shots), prompt
        self.mean, self.raw, self.language, self.calibrated = mean, raw, language, calibrated
        self._prior_K: dict[str, np.ndarray] = {}  # by the prompt's language, measured when it is met

    def prepare(self, text: str, where: str, language: str | None = None) -> Asked:
        """Ids of one input. UserError if it does not fit the context."""
        language = language or language_for(text, self.language)
        before = self.prompt.up_to("label", language, text=text, labels=self.labels, examples=self.shots)
        ids, labels = with_answers(self.loaded, before, self.labels, raw=self.raw)
        fits(self.loaded, len(ids) + max(map(len, labels)), where)
        return Asked(text, language, ids, labels)

    def __call__(self, items: Sequence[Asked]) -> np.ndarray:
        """Probabilities [B, K] of inputs, calibrated if that is on."""
        probabilities_BK = self.uncalibrated(items)
        if not self.calibrated:
            return probabilities_BK
        priors_BK = np.stack([self.prior(item.language) for item in items])
        return calibrate(probabilities_BK, priors_BK)

    def uncalibrated(self, items: Sequence[Asked]) -> np.ndarray:
        """softmax of the labels' scores [B, K]."""
        sums = log_probabilities(self.loaded.model, [item.ids for item in items], [item.labels for item in items])
        scores_BK = np.array(sums)
        refuse_not_finite("scores are", scores_BK)
        if self.mean:
            scores_BK = scores_BK / np.array([[len(ids) for ids in item.labels] for item in items])
        return _softmax(scores_BK)

    def prior(self, language: str) -> np.ndarray:
        """p_cf [K] of the prompt in that language."""
        if language not in self._prior_K:
            empty = [self.prepare(text, "calibration", language) for text in CONTENT_FREE[language]]
            self._prior_K[language] = prior(self.uncalibrated(empty))
        return self._prior_K[language]


def _softmax(scores_BK: np.ndarray) -> np.ndarray:
    exp_BK = np.exp(scores_BK - scores_BK.max(-1, keepdims=True))
    return exp_BK / exp_BK.sum(-1, keepdims=True)
