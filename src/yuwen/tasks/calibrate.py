"""Contextual calibration: Calibrate Before Use (Zhao et al. 2021), section 5.

A prompt biases a model before it has seen any text: labels that are frequent, or stood last among the examples, are
likelier whatever is asked. The bias is measured with inputs that say nothing, and divided out:

    p_cf = mean over content-free x of p(label | prompt(x))
    q    = W p / sum(W p),    W = diag(p_cf)^-1

Differs from the paper: q is normalised by its sum instead of by a softmax, so that it stays a posterior (p divided by
a prior); the label it prefers is the same.
"""

from __future__ import annotations

import numpy as np

CONTENT_FREE = {"zh": ("无", "", "[MASK]"), "en": ("N/A", "", "[MASK]")}
"""Inputs that say nothing (the paper's three)."""


def prior(probabilities_NK: np.ndarray) -> np.ndarray:
    """p_cf [K] of the label probabilities of N content-free inputs [N, K]."""
    return probabilities_NK.mean(0)


def calibrate(probabilities_BK: np.ndarray, prior_K: np.ndarray) -> np.ndarray:
    """q [B, K]. A label that content-free inputs rule out entirely keeps a finite weight."""
    weighted_BK = probabilities_BK / np.maximum(prior_K, np.finfo(np.float64).tiny)
    return weighted_BK / weighted_BK.sum(-1, keepdims=True)
