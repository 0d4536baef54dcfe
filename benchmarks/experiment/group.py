"""Processes that share each batch: a process's place among them, and what they tell each other.

All of a group read the same sequences and compute the same step, each on its part; so what they
reach together is what one process reaches, to rounding.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import Function, FunctionCtx
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:
    from lightning_fabric import Fabric

T = TypeVar("T")

# What gloo and NCCL say where another process has gone, or was never there.
LOST = re.compile(r"gloo|NCCL|Connection (closed|reset)|Broken pipe", re.IGNORECASE)


class LostProcessError(ConnectionAbortedError):
    """Another process of the group has ended, so this one cannot go on."""


class Group(NamedTuple):
    """Which of how many processes this one is."""

    rank: int = 0
    size: int = 1

    @classmethod
    def of(cls, fabric: Fabric) -> Group:
        """The group that a Fabric has joined."""
        return cls(fabric.global_rank, fabric.world_size)

    def share(self, batches: Iterable[Tensor]) -> Iterator[tuple[int, Tensor]]:
        """This process's batches with their numbers: every `size`-th, the rest is passed over."""
        return islice(enumerate(batches), self.rank, None, self.size)

    def gather(self, value: T) -> list[T]:
        """Each process's value, in the order of their ranks, in all of them."""
        if self.size == 1:
            return [value]
        found: list[T | None] = [None] * self.size
        torch.distributed.all_gather_object(found, value)
        return found  # type: ignore[return-value]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of each process's tensor, in all of them; the tensor itself is left as it is."""
        if self.size == 1:
            return tensor
        total = tensor.detach().clone()
        torch.distributed.all_reduce(total)
        return total

    def equal_buffers(self, model: nn.Module) -> None:
        """Give all processes the first one's buffers, as a training step does before it begins."""
        for buffer in model.buffers() if self.size > 1 else ():
            torch.distributed.broadcast(buffer, 0)


ALONE = Group()


def ranked(group: Group) -> tuple[int, ...]:
    """What tells a process's random numbers from those of the others, where there are others."""
    return (group.rank,) if group.size > 1 else ()


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another process of the group has gone."""
    if isinstance(error, torch.distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and LOST.search(str(error)) is not None


# --- batch normalisation -------------------------------------------------------------------------


class _Sum(Function):
    """The sum over all processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: FunctionCtx, tensor: Tensor) -> Tensor:
        total = tensor.contiguous().clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradient)


class _OnCPU(_BatchNorm):
    """Batch normalisation over the parts of all processes, which are of one size."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any; the class that this one stands in for has seen to it when the row was tried."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        axes, parts = [0, *range(2, x.dim())], torch.distributed.get_world_size()
        each = (1, -1, *[1] * (x.dim() - 2))  # channels, against x
        count = parts * x.numel() // x.shape[1]
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = _Sum.apply(wide.mean(axes)) / parts
        centred = wide - mean.view(each)
        variance = _Sum.apply(centred.square().mean(axes)) / parts
        self._track(mean.detach(), variance.detach() * count / max(1, count - 1))
        y: Tensor = centred * (variance + self.eps).rsqrt().view(each)
        if self.affine:
            y = y * self.weight.view(each) + self.bias.view(each)
        return y.to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum
        if share is None:  # the mean over all batches
            share = 1 / float(self.num_batches_tracked)
        for running, new in ((self.running_mean, mean), (self.running_var, variance)):
            assert running is not None
            running.lerp_(new.to(running.dtype), share)


class Synchronised:
    """Lets the batch normalisations of a model see the batch of all processes, until `undo`.

    The modules change their class and nothing else: parameters, buffers and their names stay.
    """

    def __init__(self, model: nn.Module, device: torch.device, group: Group) -> None:
        modules = model.modules() if group.size > 1 else ()
        self._plain = [(found, type(found)) for found in modules if isinstance(found, _BatchNorm)]
        for module, _ in self._plain:
            if device.type == "cuda":
                module.__class__ = nn.SyncBatchNorm
                vars(module)["process_group"] = None  # all processes
                # It waits for the others, which no graph that is compiled does.
                module.forward = torch.compiler.disable(module.forward)  # type: ignore[method-assign]
            else:
                module.__class__ = _OnCPU  # as torch's has kernels for GPUs alone

    def undo(self) -> None:
        """Make them what they were."""
        for module, plain in self._plain:
            module.__class__ = plain
            for name in ("process_group", "forward"):
                vars(module).pop(name, None)
