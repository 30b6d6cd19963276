"""How weights move: SGD, AdamW and Muon over the fp32 masters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from yuwen.config import Config
from yuwen.training.muon import Muon


class OptimizerConfig(Config):
    """Which rule, how fast, and what holds the weights back.

    `muon` moves the matrices of the blocks; embeddings, head, norms and biases then follow AdamW at `table_lr`.
    `weight_decay` is decoupled (w -= lr x decay x w, Loshchilov & Hutter 2019) and acts on matrices and tables only;
    `l2` and `l1` add l2 x w and l1 x sign(w) to the gradient. `clip` bounds the norm of the whole gradient (0: off).
    """

    name: Literal["sgd", "adamw", "muon"] = "muon"
    lr: float = Field(default=0.02, gt=0)
    table_lr: float = Field(default=0.004, gt=0)
    momentum: float = Field(default=0.95, ge=0, lt=1)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    l1: float = Field(default=0.0, ge=0)
    l2: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, ge=0)
    iterations: int = Field(default=5, ge=1, le=10, description="Newton-Schulz iterations of Muon")


class Optimizers:
    """The optimisers of one model under one learning-rate factor, and their state as named tensors.

    `dtype` is the one the model computes in, which Muon's products follow.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], config: OptimizerConfig, dtype: torch.dtype = torch.float32
    ) -> None:
        self.config = config
        self.weights = dict(weights)
        self._parts = _parts(self.weights, config, dtype)
        self._rates = [[group["lr"] for group in part.param_groups] for part in self._parts]
        self._names = {id(weight): name for name, weight in self.weights.items()}

    @torch.no_grad()
    def step(self, factor: float) -> float:
        """Regularises, clips and moves. `factor` multiplies every learning rate. Returns the gradient's norm."""
        tensors = [w for w in self.weights.values() if w.grad is not None]
        gradients = [w.grad for w in tensors if w.grad is not None]
        if self.config.l2:
            torch._foreach_add_(gradients, tensors, alpha=self.config.l2)
        if self.config.l1:
            torch._foreach_add_(gradients, torch._foreach_sign(tensors), alpha=self.config.l1)
        norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
        if 0 < self.config.clip < norm:
            torch._foreach_mul_(gradients, self.config.clip / norm)
        for part, rates in zip(self._parts, self._rates, strict=True):
            for group, rate in zip(part.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            part.step()
        return norm

    def state(self) -> dict[str, Tensor]:
        """Everything the rules remember, as `weight name/quantity`."""
        tensors = {}
        for part in self._parts:
            for weight, remembered in part.state.items():
                for quantity, value in remembered.items():
                    tensors[f"{self._names[id(weight)]}/{quantity}"] = torch.as_tensor(value)
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes back what `state` gave."""
        for key, value in tensors.items():
            name, quantity = key.rsplit("/", 1)
            weight = self.weights[name]
            part = next(p for p in self._parts if any(weight is w for g in p.param_groups for w in g["params"]))
            part.state.setdefault(weight, {})[quantity] = value.clone()


def _parts(weights: Mapping[str, Tensor], config: OptimizerConfig, dtype: torch.dtype) -> list[torch.optim.Optimizer]:
    matrices = [w for n, w in weights.items() if w.dim() == 2 and "blocks." in n]
    tables = [w for n, w in weights.items() if w.dim() >= 2 and not any(w is m for m in matrices)]
    vectors = [w for w in weights.values() if w.dim() < 2]
    decay = config.weight_decay
    if config.name == "sgd":
        groups = _groups((matrices + tables, config.lr, config.weight_decay), (vectors, config.lr, 0.0))
        return [_DecoupledSGD(groups, lr=config.lr, momentum=config.momentum, foreach=True)]
    adamw: dict[str, Any] = {"betas": (config.beta1, config.beta2), "eps": config.eps, "fused": True}
    if config.name == "adamw":
        return [torch.optim.AdamW(_groups((matrices + tables, config.lr, decay), (vectors, config.lr, 0.0)), **adamw)]
    rest = torch.optim.AdamW(_groups((tables, config.table_lr, decay), (vectors, config.table_lr, 0.0)), **adamw)
    muon = Muon(
        matrices,
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=decay,
        iterations=config.iterations,
        dtype=dtype,
    )
    return [muon, rest]


def _groups(*parts: tuple[list[Tensor], float, float]) -> list[dict[str, Any]]:
    return [{"params": params, "lr": lr, "weight_decay": decay} for params, lr, decay in parts if params]


class _DecoupledSGD(torch.optim.SGD):
    """SGD whose weight decay does not pass through the momentum (SGDW, Loshchilov & Hutter 2019, algorithm 1)."""

    def step(self, closure: Any = None) -> Any:
        decays = [group["weight_decay"] for group in self.param_groups]
        for group in self.param_groups:
            torch._foreach_mul_(group["params"], 1 - group["lr"] * group["weight_decay"])
            group["weight_decay"] = 0.0
        super().step(closure)
        for group, decay in zip(self.param_groups, decays, strict=True):
            group["weight_decay"] = decay
