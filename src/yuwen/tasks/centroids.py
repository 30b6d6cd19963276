"""Classification in an encoder's space: by the centre of each class's examples, the nearest one, and the label's name.

    e'(x) = S^(-1/2) (e(x) - mean),  normalised            S = 0.2 S_w + 0.8 (tr S_w / D) 1
    c_k   = mean over examples x of class k of e'(x),  normalised
    v_k   = (1 - blend) c_k + blend e'(label prompt of k),  normalised
    s_k   = 0.7 cos(e'(x), v_k) + 0.3 max over examples y of class k of cos(e'(x), e'(y))
    p_k   = softmax(s / 0.05)

S_w is the covariance of the examples around their classes' means, shrunk because examples are few: how texts of one
class differ (their wording) then counts less than how classes differ, as in Fisher's linear discriminant. The centre is
that of prototypical networks (Snell et al. 2017, eq. 1); the nearest example serves classes that have several centres;
the label's name is one more thing known of the class. While no class has two examples e' = e; without examples at all
v_k = e(label prompt of k) and s_k = cos(e(x), v_k). A class without examples is its name.

The numbers were chosen on training rows of banking77, as benchmarks/few_shot.py tune compares them. The temperature
only spreads the probabilities; the label does not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from yuwen.errors import UserError
from yuwen.tasks.batches import chunks
from yuwen.tasks.contract import Input, Pooling, Usable, documents, place, refuse
from yuwen.tasks.embed import Embedder
from yuwen.tasks.prompts import Prompt, language_for
from yuwen.tasks.shots import Example

BLEND, NEAREST, SHRINKAGE = 0.3, 0.3, 0.8
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
) -> Iterator[dict[str, Any]]:
    """Rows as `classify` gives them; the label prompt is of each label's own language."""
    if not shots:
        refuse("classify", "an encoder without shots", blend=blend)
    if blend is not None and not 0 <= blend <= 1:
        raise UserError(f"blend={blend}: a share of the label between 0 (examples alone) and 1 (label alone)")
    missing = sorted(set(labels) - {example.label for example in shots})
    if shots and missing and blend == 0:
        raise UserError(f"label {missing[0]!r} has no example, and blend=0 leaves its name out: add one, or blend more")
    embedder = Embedder(loaded, pooling)
    prompt = Prompt.of("label", label_prompt)
    names_KD = embedder.texts([prompt.render(language_for(name, None), label=name) for name in labels])
    examples_ND = embedder.texts([example.text for example in shots]) if shots else names_KD[:0]
    own_N = torch.tensor([labels.index(example.label) for example in shots], dtype=torch.long)
    classes = Classes(names_KD, examples_ND, own_N, blend=BLEND if blend is None else blend)
    return _classify(embedder, inputs, labels, classes)


class Classes:
    """What is known of each class: `names_KD` of its label, `examples_ND`, of which example n belongs to `own_N[n]`."""

    def __init__(
        self,
        names_KD: Tensor,
        examples_ND: Tensor,
        own_N: Tensor,
        *,
        blend: float = BLEND,
        nearest: float = NEAREST,
        shrinkage: float = SHRINKAGE,
    ) -> None:
        self.own_N, self.nearest = own_N, nearest
        names_KD, examples_ND = F.normalize(names_KD, dim=-1), F.normalize(examples_ND, dim=-1)
        self._metric = _metric(examples_ND, own_N, len(names_KD), shrinkage)
        self.examples_ND = self.seen(examples_ND)
        names_KD = self.seen(names_KD)
        count_K1 = torch.bincount(own_N, minlength=len(names_KD))[:, None]
        centres_KD = F.normalize(torch.zeros_like(names_KD).index_add(0, own_N, self.examples_ND), dim=-1)
        vectors_KD = torch.where(count_K1 > 0, (1 - blend) * centres_KD + blend * names_KD, names_KD)
        self.vectors_KD = F.normalize(vectors_KD, dim=-1)
        self._empty_K = count_K1[:, 0] == 0

    def seen(self, e_BD: Tensor) -> Tensor:
        """e'(x) [B, D] of embeddings."""
        if self._metric is not None:
            mean_D, root_DD = self._metric
            e_BD = (F.normalize(e_BD, dim=-1) - mean_D) @ root_DD
        return F.normalize(e_BD, dim=-1)

    def scores(self, e_BD: Tensor) -> Tensor:
        """s_k [B, K] of embeddings."""
        e_BD = self.seen(e_BD)
        centre_BK = e_BD @ self.vectors_KD.T
        if not len(self.own_N):
            return centre_BK
        cosine_BN = e_BD @ self.examples_ND.T
        none_BK = torch.full_like(centre_BK, -torch.inf)
        nearest_BK = none_BK.scatter_reduce(1, self.own_N.expand_as(cosine_BN), cosine_BN, "amax")
        nearest_BK = torch.where(self._empty_K, centre_BK, nearest_BK)
        return (1 - self.nearest) * centre_BK + self.nearest * nearest_BK


def _metric(examples_ND: Tensor, own_N: Tensor, classes: int, shrinkage: float) -> tuple[Tensor, Tensor] | None:
    """(mean [D], S^(-1/2) [D, D]) of the examples; None where no two of a class differ."""
    free = len(own_N) - len(own_N.unique())
    if not free:
        return None
    D = examples_ND.shape[1]
    count_K1 = torch.bincount(own_N, minlength=classes)[:, None].clamp(min=1)
    means_KD = torch.zeros(classes, D).index_add(0, own_N, examples_ND) / count_K1
    inside_ND = examples_ND - means_KD[own_N]
    within_DD = inside_ND.T @ inside_ND / free
    average = float(within_DD.trace()) / D
    if average < 1e-9:
        return None
    values_D, vectors_DD = torch.linalg.eigh((1 - shrinkage) * within_DD + shrinkage * average * torch.eye(D))
    return examples_ND.mean(0), (vectors_DD * values_D.rsqrt()) @ vectors_DD.T


def _classify(
    embedder: Embedder, inputs: Iterable[Input], labels: Sequence[str], classes: Classes
) -> Iterator[dict[str, Any]]:
    prepared = (embedder.prepare(document.text, place(document)) for document in documents(inputs))
    for chunk in chunks(prepared, _CHUNK):
        p_BK = (classes.scores(embedder(chunk)).double() / _TEMPERATURE).softmax(-1)
        for piece, scores_K in zip(chunk, p_BK.tolist(), strict=True):
            scores = dict(zip(labels, scores_K, strict=True))
            row = {"input": piece.text, "label": max(scores, key=scores.__getitem__), "scores": scores}
            yield {**row, **({"cut": True} if piece.cut else {})}
