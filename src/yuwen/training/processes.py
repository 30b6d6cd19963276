"""One process or many: who this one is, and sums over all (torchrun's environment, `torch.distributed`)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from yuwen.errors import UserError

# The others wait while the first one prepares a corpus. One that dies closes its connections and is noticed at once.
_PATIENCE = timedelta(days=2)


class Processes:
    """The group this process trains in. Alone it is rank 0 of 1 and every reduction is the identity."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank, self.world = rank, world

    @classmethod
    def from_environment(cls) -> Processes:
        """Joins the group that `torchrun` set up, over gloo since all is computed on CPUs; alone when there is none."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("gloo", timeout=_PATIENCE)
        return cls(dist.get_rank(), world)

    @property
    def first(self) -> bool:
        """Is this the process that writes?"""
        return self.rank == 0

    def sum_counts(self, counts: dict[str, float]) -> dict[str, float]:
        """Each number summed over all processes (the keys are the same everywhere)."""
        if self.world == 1:
            return counts
        values = torch.tensor([counts[key] for key in sorted(counts)], dtype=torch.float64)
        dist.all_reduce(values)
        return dict(zip(sorted(counts), values.tolist(), strict=True))

    def sum_gradients(self, weights: Iterable[Tensor]) -> None:
        """Sums the gradients over all processes, in one message."""
        if self.world == 1:
            return
        gradients = [w.grad for w in weights if w.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(summed.view_as(gradient))

    def fill_in(self, tensors: Iterable[Tensor]) -> None:
        """Gives every process the elements that one of them holds and all others have as zeros, in place, exactly."""
        if self.world > 1:
            for tensor in tensors:
                dist.all_reduce(tensor.view(torch.uint8))

    def gather(self, rows_ND: Tensor) -> tuple[Tensor, int]:
        """The rows of all processes (as many each), in their order, and where this one's begin; what a process makes of
        another's rows flows back to it as gradient."""
        return (rows_ND, 0) if self.world == 1 else (_Gathered.apply(rows_ND), self.rank * len(rows_ND))

    def first_says(self, value: float) -> float:
        """The first process's number, known to all."""
        if self.world == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64)
        dist.broadcast(shared, src=0)
        return float(shared)

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            dist.barrier()

    def lost(self, error: BaseException) -> UserError | None:
        """What to tell when `error` means that another process has gone; None for any other error."""
        if self.world == 1 or not isinstance(error, RuntimeError) or "onnection" not in str(error):
            return None
        return UserError(f"process {self.rank} of {self.world}: another process has ended; its own message says why")

    def leave(self) -> None:
        """Ends the group."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()


class _Gathered(torch.autograd.Function):
    """Rows of all processes one after another; backward, each row's gradients from all of them are summed."""

    @staticmethod
    def forward(ctx: Any, rows_ND: Tensor) -> Tensor:
        parts = [torch.empty_like(rows_ND) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows_ND.contiguous())
        ctx.rows = len(rows_ND)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].clone()
        dist.all_reduce(summed)
        return summed[dist.get_rank() * ctx.rows :][: ctx.rows]
