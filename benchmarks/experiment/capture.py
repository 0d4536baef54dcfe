"""A training step's loss and gradients as a CUDA graph: one launch instead of thousands."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from tau import Clip, Predictor

EAGER_CALLS = 2  # before the capture, in which libraries set themselves up
WARM_UP = EAGER_CALLS + 1  # calls on a GPU, after which each is as fast as the next

Gradients = Callable[[Tensor], Tensor]


def gradients_of(
    loss_of: Callable[[Tensor, Tensor], Tensor],
    clip: Clip,
    autocast: AbstractContextManager[object] | None = None,
    backward: Callable[[Tensor], object] = Tensor.backward,
) -> Gradients:
    """What gives the loss of a batch, detached, and leaves its gradients in the parameters."""

    def gradients(sequences: Tensor) -> Tensor:
        with autocast or nullcontext():
            loss = loss_of(*clip.split(sequences))
        backward(loss)
        return loss.detach()

    return gradients


def at_once(model: Predictor, device: torch.device, gradients: Gradients) -> Gradients:
    """`gradients`, from a CUDA graph where the device and the model allow one."""
    if device.type == "cuda" and is_capturable(model):
        return CapturedGradients(model, gradients)
    return gradients


def is_capturable(model: Predictor) -> bool:
    """Whether a model's own class promises it: a user's subclass may keep less than its base."""
    kind = type(model)
    ours = kind.__module__.partition(".")[0] in ("tau", "baselines")
    return model.capturable and (ours or "capturable" in vars(kind))


class CapturedGradients:
    """`gradients`, run eagerly twice, then captured in a CUDA graph and replayed.

    gradients: (sequences [B, T, C, H, W]) -> loss, a detached scalar; leaves the gradients in the
    parameters of `model`. Its operations must be the same in every step (`Predictor.capturable`);
    sequences keep their shape. Randomness drawn on the GPU follows its generator's seed in a replay
    as in an eager step, so both give the same numbers, and nothing here waits for the GPU.

    Raises ValueError for a model that cannot be captured, or draws random numbers on the host, as a
    replay would repeat them.
    """

    def __init__(self, model: nn.Module, gradients: Gradients) -> None:
        self._model, self._compute = model, gradients
        self._stream = torch.cuda.Stream()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._calls = 0

    def __call__(self, sequences: Tensor) -> Tensor:
        """The loss of a batch; its gradients are in the parameters."""
        self._calls += 1
        if self._calls <= EAGER_CALLS:
            # On the stream of the capture: autograd accumulates gradients on one stream.
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream), draws_nothing_on_the_host(self._model):
                loss = self._compute(sequences)
            torch.cuda.current_stream().wait_stream(self._stream)
            return loss
        if self._graph is None:
            self._capture(sequences)
        assert self._graph is not None
        self._sequences.copy_(sequences)
        self._graph.replay()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        return self._loss.clone()  # the next replay overwrites it

    def _capture(self, sequences: Tensor) -> None:
        self._sequences = sequences.clone()
        self._model.zero_grad(set_to_none=True)  # so that a replay writes gradients, adding to none
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._loss = self._compute(self._sequences)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise ValueError(
                f"{type(self._model).__name__} cannot be captured in a CUDA graph ({error}); set "
                "capturable = False on the class"
            ) from error
        self._graph = graph
        self._gradients = [(p, p.grad) for p in self._model.parameters() if p.grad is not None]


@contextmanager
def draws_nothing_on_the_host(model: nn.Module) -> Iterator[None]:
    """Raise ValueError if Python's, NumPy's or torch's generator on the CPU moves inside."""
    before = _host_generators()
    yield
    if _host_generators() != before:
        raise ValueError(
            f"{type(model).__name__} draws random numbers on the host, which a CUDA graph would "
            "repeat in every step: draw them on the device, or set capturable = False on the class"
        )


def _host_generators() -> tuple[object, ...]:
    numpy = np.random.get_state(legacy=False)["state"]  # noqa: NPY002 - the one that models may use
    words = numpy["key"].tobytes(), torch.get_rng_state().numpy().tobytes()
    return random.getstate(), numpy["pos"], *words
