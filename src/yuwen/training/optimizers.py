"""How weights move: SGD, AdamW and Muon over the fp32 masters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from yuwen.config import Config
from yuwen.nn import Linear, Recurrence, TokenEmbedding
from yuwen.training.muon import Muon

_LR = {"muon": 0.02, "adamw": 0.001, "sgd": 0.1}
_READS = {
    "muon": {"table_lr", "momentum", "beta1", "beta2", "eps", "iterations"},
    "adamw": {"beta1", "beta2", "eps"},
    "sgd": {"momentum"},
}


class OptimizerConfig(Config):
    """Which rule, how fast, and what holds the weights back.

    `muon` moves the matrices that map hidden states (`hidden_matrices`); what is looked up or scores a vocabulary, and
    norms and biases, then follow AdamW at `table_lr`. `lr` left out is the rule's own: 0.02 for muon, 0.001 for adamw,
    0.1 for sgd. `weight_decay` is decoupled (w -= lr x decay x w, Loshchilov & Hutter 2019) and acts on matrices and
    tables only; `l2` and `l1` add l2 x w and l1 x sign(w) to the gradient. `clip` bounds the norm of the whole gradient
    (0: off).
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

    @model_validator(mode="before")
    @classmethod
    def _own_rate(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "lr" in values:
            return values
        own = next((rate for name, rate in _LR.items() if values.get("name") == name), None)
        return values if own is None else {**values, "lr": own}

    @model_validator(mode="after")
    def _no_setting_ignored(self) -> Self:
        for name in sorted(set.union(*_READS.values()) - _READS[self.name]):
            value = getattr(self, name)
            if value != type(self).model_fields[name].default:
                raise ValueError(
                    f"{self.name} would ignore {name}={value}: leave it out, or give the section anew, such as "
                    f"optimizer='{{name: {self.name}, lr: {_LR[self.name]}}}'"
                )
        return self


def hidden_matrices(model: nn.Module) -> dict[str, float]:
    """The weights that map hidden states to hidden states or to a few classes, by name: how fast beside each other.

    No table of a vocabulary or of positions is among them.
    """
    return {
        f"{place}.{name}" if place else name: getattr(module, "lr_scale", 1.0)
        for place, module in model.named_modules()
        if isinstance(module, (Linear, Recurrence))
        for name, weight in module.named_parameters(recurse=False)
        if weight.dim() == 2
    }


def table_rates(model: nn.Module) -> dict[str, float]:
    """The tables of a vocabulary, by name: how fast beside what their model's family usually begins with."""
    return {
        f"{place}.weight": module.lr_scale
        for place, module in model.named_modules()
        if isinstance(module, TokenEmbedding)
    }


class Optimizers:
    """The optimisers of one model under one learning-rate factor, and their state as named tensors.

    `matrices` names the weights that Muon moves and their rates (`hidden_matrices`), which AdamW heeds too, as both do
    those of `tables` (`table_rates`); `dtype` is the one the model computes in, which Muon's products follow.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        config: OptimizerConfig,
        matrices: Mapping[str, float],
        tables: Mapping[str, float] | None = None,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.config = config
        self.weights = dict(weights)
        self._parts = _parts(self.weights, config, matrices, tables or {}, dtype)
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


def _parts(
    weights: Mapping[str, Tensor],
    config: OptimizerConfig,
    hidden: Mapping[str, float],
    tables: Mapping[str, float],
    dtype: torch.dtype,
) -> list[torch.optim.Optimizer]:
    lr, decay = config.lr, config.weight_decay
    matrices = {n: (hidden[n], w) for n, w in weights.items() if n in hidden}
    others = {n: (tables.get(n, 1.0), w) for n, w in weights.items() if n not in hidden and w.dim() >= 2}
    vectors = [w for w in weights.values() if w.dim() < 2]
    if config.name == "sgd":
        groups = _groups(([w for _, w in [*matrices.values(), *others.values()]], lr, decay), (vectors, lr, 0.0))
        return [_DecoupledSGD(groups, lr=lr, momentum=config.momentum, foreach=True)]
    hidden_groups = _by_rate(matrices, lr, decay)
    adamw: dict[str, Any] = {"betas": (config.beta1, config.beta2), "eps": config.eps, "fused": True}
    if config.name == "adamw":
        return [torch.optim.AdamW(_groups(*hidden_groups, *_by_rate(others, lr, decay), (vectors, lr, 0.0)), **adamw)]
    slow = config.table_lr
    rest = torch.optim.AdamW(_groups(*_by_rate(others, slow, decay), (vectors, slow, 0.0)), **adamw)
    muon = Muon(_groups(*hidden_groups), lr=lr, momentum=config.momentum, iterations=config.iterations, dtype=dtype)
    return [muon, rest]


def _by_rate(
    weights: Mapping[str, tuple[float, Tensor]], lr: float, decay: float
) -> list[tuple[list[Tensor], float, float]]:
    """A group for each rate, of rules whose steps do not shrink with the gradient; all decay alike."""
    rates = sorted({rate for rate, _ in weights.values()}, reverse=True)
    return [([w for own, w in weights.values() if own == rate], lr * rate, decay / rate) for rate in rates]


def _groups(*parts: tuple[list[Tensor], float, float]) -> list[dict[str, Any]]:
    return [{"params": params, "lr": lr, "weight_decay": decay} for params, lr, decay in parts if params]


class _DecoupledSGD(torch.optim.SGD):
    """SGD whose weight decay does not pass through the momentum (SGDW, Loshchilov & Hutter 2019, algorithm 1)."""

    def step(self, closure: Any = None) -> Any:
        decays = [group["weight_decay"] for group in self.param_groups]
        for group in self.param_groups:
            if learning := [weight for weight in group["params"] if weight.grad is not None]:
                torch._foreach_mul_(learning, 1 - group["lr"] * group["weight_decay"])
            group["weight_decay"] = 0.0
        super().step(closure)
        for group, decay in zip(self.param_groups, decays, strict=True):
            group["weight_decay"] = decay
