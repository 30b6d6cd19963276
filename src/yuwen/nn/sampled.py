"""The loss over a large vocabulary from a part of it: a softmax of 33,000 words costs more than the model below it.

    loss_n = log( exp s_n(t_n) + sum_{w in C, w != t_n} exp s_n(w) / pi(w) ) - s_n(t_n)

C are words drawn at random, pi(w) the probability that w is among them: so the sum is right on average, whatever they
are drawn from (importance sampling: Bengio & Senécal 2008, section 4; Jean et al. 2015, section 3). The logarithm makes
the loss a little too small; models are measured with the whole softmax.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yuwen.nn.cross_entropy import IGNORE
from yuwen.nn.embedding import look_up


def candidates(vocabulary: int, draws: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """(C, log pi) of so many draws from q(w) = log((w + 2) / (w + 1)) / log(V + 1), int64 [C] rising and fp32 [C].

    This is Zipf's law for ids by falling frequency, as tokenizers of words have them; the better it fits, the less the
    sum varies.
    """
    drawn = np.unique(np.exp(rng.random(draws) * math.log(vocabulary + 1)).astype(np.int64) - 1)
    drawn = drawn[(drawn >= 0) & (drawn < vocabulary)]  # rounding at the ends
    q = np.log1p(1 / (drawn + 1.0)) / math.log(vocabulary + 1)
    inside = -np.expm1(draws * np.log1p(-q))
    return torch.from_numpy(drawn), torch.from_numpy(np.log(inside).astype(np.float32))


class SampledCrossEntropy(nn.Module):
    """The summed loss in nats of hidden states under a linear head, the vocabulary seen through `candidates`.

    h [N, D], weight [V, D], bias [V] or None, targets [N] (IGNORE is not counted), C [C], log pi [C] -> scalar fp32.
    """

    def forward(
        self,
        h_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        drawn_C: Tensor,
        log_pi_C: Tensor,
    ) -> Tensor:
        kept_N = targets_N != IGNORE
        if not bool(kept_N.all()):
            h_ND, targets_N = h_ND[kept_N], targets_N[kept_N]
        offset_C = -log_pi_C if bias_V is None else bias_V[drawn_C].float() - log_pi_C
        scores_NC = F.linear(h_ND, look_up(drawn_C, weight_VD)).float() + offset_C
        scores_NC = scores_NC.masked_fill(drawn_C == targets_N[:, None], -math.inf)
        own_N = (h_ND.float() * look_up(targets_N, weight_VD).float()).sum(-1)
        if bias_V is not None:
            own_N = own_N + look_up(targets_N, bias_V[:, None])[:, 0].float()
        first_N = torch.zeros_like(targets_N)
        return F.cross_entropy(torch.cat((own_N[:, None], scores_NC), 1), first_N, reduction="sum")
