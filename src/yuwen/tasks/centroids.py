"""Classification in an encoder's space: by the centre of each class's examples and by what its label means.

    c_k = mean over examples x of class k of e(x),  normalised        (Snell et al. 2017, prototypical networks, eq. 1)
    l_k = e(label prompt of k)
    v_k = (1 - blend) c_k + blend l_k,  normalised
    p_k = softmax(cos(e(x), v_k) / 0.05)

Without examples v_k = l_k. The temperature only spreads the probabilities; the label does not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from yuwen.errors import UserError
from yuwen.tasks.batches import chunks
from yuwen.tasks.contract import Input, Pooling, Usable, documents, place, refuse
from yuwen.tasks.embed import Embedder
from yuwen.tasks.language import known
from yuwen.tasks.prompts import Prompt, language_for
from yuwen.tasks.shots import Example

BLEND = 0.3
_TEMPERATURE = 0.05
_CHUNK = 512


def classify_by_centroids(
    loaded: Usable,
    inputs: Iterable[Input],
    labels: Sequence[str],
    shots: Sequence[Example],
    *,
    pooling: Pooling | None,
    blend: float | None,
    label_prompt: str | Path | None,
    language: str | None,
) -> Iterator[dict[str, Any]]:
    """Rows as `classify` gives them; `language` is that of the label prompt (default: the label's own)."""
    if not shots:
        refuse("classify", "an encoder without shots", blend=blend)
    if blend is not None and not 0 <= blend <= 1:
        raise UserError(f"blend={blend}: a share of the label between 0 (examples alone) and 1 (label alone)")
    missing = sorted(set(labels) - {example.label for example in shots})
    if shots and missing and blend == 0:
        raise UserError(f"label {missing[0]!r} has no example, and blend=0 leaves its name out: add one, or blend more")
    embedder = Embedder(loaded, pooling)
    prompt = Prompt.of("label", label_prompt)
    texts = [prompt.render(language_for(label, known(language)), label=label) for label in labels]
    vectors_KD = class_vectors(embedder, labels, texts, shots, BLEND if blend is None else blend)
    return _classify(embedder, inputs, labels, vectors_KD)


def class_vectors(
    embedder: Embedder, labels: Sequence[str], label_texts: Sequence[str], shots: Sequence[Example], blend: float
) -> Tensor:
    """v_k of every label [K, D]; a label without examples is its own embedding."""
    vectors_KD = F.normalize(embedder.texts(label_texts), dim=-1)
    if shots:
        examples_ND = F.normalize(embedder.texts([example.text for example in shots]), dim=-1)
        for position, label in enumerate(labels):
            rows = [row for row, example in enumerate(shots) if example.label == label]
            if rows:
                centre_D = F.normalize(examples_ND[rows].mean(0), dim=-1)
                vectors_KD[position] = (1 - blend) * centre_D + blend * vectors_KD[position]
    return F.normalize(vectors_KD, dim=-1)


def _classify(
    embedder: Embedder, inputs: Iterable[Input], labels: Sequence[str], vectors_KD: Tensor
) -> Iterator[dict[str, Any]]:
    prepared = (embedder.prepare(document.text, place(document)) for document in documents(inputs))
    for chunk in chunks(prepared, _CHUNK):
        cosines_BK = F.normalize(embedder(chunk), dim=-1) @ vectors_KD.T
        scores_BK = (cosines_BK.double() / _TEMPERATURE).softmax(-1)
        for piece, scores_K in zip(chunk, scores_BK.tolist(), strict=True):
            scores = dict(zip(labels, scores_K, strict=True))
            row = {"input": piece.text, "label": max(scores, key=scores.__getitem__), "scores": scores}
            yield {**row, **({"cut": True} if piece.cut else {})}
