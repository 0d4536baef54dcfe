"""What a model costs: parameters, multiply-adds, sequences per second, peak memory.

Published "FLOPs" of this field are multiply-adds as fvcore counts them, for the whole rollout of
one sequence: convolutions and linear layers without bias, matrix products, 5 an element for affine
normalisation (2 for batch normalisation in eval mode), pooling and up-sampling; activations and
other element-wise operations are free.
"""

from __future__ import annotations

import copy
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.experiment import hardware
from benchmarks.experiment.capture import WARM_UP, at_once, gradients_of
from tau import Clip, Predictor

aten = torch.ops.aten
Shape = Sequence[int]


# --- parameters and multiply-adds ----------------------------------------------------------------


def parameters(model: nn.Module) -> int:
    """Number of parameters, frozen ones included; shared ones count once."""
    return sum(p.numel() for p in model.parameters())


def build_on_meta(model: type[Predictor], clip: Clip, options: Mapping[str, Any]) -> Predictor:
    """Build a model without memory or arithmetic, to count it: parameters have shapes only."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as torch's, that weights of a file are not copied
        return model(clip, **options)


def size(model: type[Predictor], clip: Clip, options: Mapping[str, Any]) -> tuple[int, int]:
    """Parameters and multiply-adds of a model that is built for this, as in `macs`.

    Shapes alone are computed, unless the model needs values of its tensors: then it is built on the
    CPU. Raises what the model raises there.
    """
    try:
        built = build_on_meta(model, clip, options)
        return parameters(built), _in_place(built, clip, torch.device("meta"))
    except Exception:  # without values, the model's own code may raise anything
        built = model(clip, **options)
        number = parameters(built)
        try:
            return number, macs(built, clip)
        except Exception:  # such as one that cannot be copied, as with weight_norm
            return number, _in_place(built, clip, torch.device("cpu"))


def _in_place(model: Predictor, clip: Clip, device: torch.device) -> int:
    """The same as `macs` of a model that nothing else needs."""
    return _counted(model.eval(), clip, device).get_total_flops() // 2


def macs(model: Predictor, clip: Clip, train: bool = False) -> int:
    """Multiply-adds of one sequence, clip.past -> clip.future frames; nothing is computed.

    `train` counts batch normalisation as in training. The model may be on any device, meta too,
    and is left as it is. Counted on shapes alone, or, where the forward reads a tensor's value,
    from a real prediction.
    """
    return _count(model, clip, train).get_total_flops() // 2


def published_macs(model: Predictor, clip: Clip) -> int:
    """Multiply-adds by the rule that gives the printed digits of TAU's Table 6.

    Inferred from the match: in train mode, and recurrent models without their last convolution,
    which is the module that a model holds as `readout`.
    """
    counter = _count(model, clip, train=True)
    readout = counter.get_flop_counts().get(f"{type(model).__name__}.readout", {})
    return (counter.get_total_flops() - sum(readout.values())) // 2


def fvcore_macs(model: Predictor, clip: Clip, train: bool = False) -> int:
    """The same as `macs`, counted by fvcore from a trace of a real forward pass: slow.

    Raises ValueError for a model on the meta device, which cannot be traced.
    """
    first = next(chain(model.parameters(), model.buffers()), torch.empty(0))
    if first.is_meta:
        raise ValueError("the model is on the meta device; build it on a real one, or use macs")
    rollout = _Rollout(copy.deepcopy(model).train(train), clip.future)
    with _forked_rng(first.device), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fvcore uses torch.jit
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(rollout, _past(clip, first.device))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.set_op_handle("aten::scaled_dot_product_attention", _traced_attention)
        return int(analysis.tracer_warnings("none").total())


def _traced_attention(inputs: Sequence[Any], _: Sequence[Any]) -> int:
    # fvcore knows its matrix products alone, not the operator that fuses them.
    return _attention(*(value.type().sizes() for value in inputs[:3])) // 2


class _Rollout(nn.Module):
    def __init__(self, model: Predictor, horizon: int) -> None:
        super().__init__()
        self.model = model
        self.horizon = horizon

    def forward(self, past: Tensor) -> Tensor:
        return self.model(past, self.horizon)


def _count(model: Predictor, clip: Clip, train: bool) -> FlopCounterMode:
    # A deep copy that finds meta tensors instead of all weights: no data is copied.
    tensors = list(chain(model.parameters(), model.buffers()))
    shapes = {id(t): t.detach().to("meta") for t in tensors}
    try:
        return _counted(copy.deepcopy(model, shapes).train(train), clip, torch.device("meta"))
    except Exception:  # as in `size`
        device = tensors[0].device if tensors else torch.device("cpu")
        if device.type == "meta":
            raise  # nothing but shapes is there
        return _counted(copy.deepcopy(model).train(train), clip, device)


def _counted(model: Predictor, clip: Clip, device: torch.device) -> FlopCounterMode:
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    with counter, torch.no_grad(), _forked_rng(device):
        model(_past(clip, device), clip.future)
    return counter


def _past(clip: Clip, device: torch.device) -> Tensor:
    return torch.ones(1, clip.past, clip.channels, clip.height, clip.width, device=device)


# torch's counter knows convolutions and matrix products, two for each multiply-add; these are
# the operators that fvcore counts besides, so they are doubled too.


def _norm(x: Shape, weight: Shape | None = None, *_: Any, **__: Any) -> int:
    return 2 * prod(x) * (4 if weight is None else 5)


def _layer_norm(x: Shape, _shape: Any, weight: Shape | None = None, *_: Any, **__: Any) -> int:
    return _norm(x, weight)


def _batch_norm(
    x: Shape,
    weight: Shape | None,
    _bias: Any,
    _mean: Any,
    _var: Any,
    training: bool,
    *_: Any,
    **__: Any,
) -> int:
    return _norm(x, weight) if training else 2 * prod(x) * (1 if weight is None else 2)


def _attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _pool(x: Shape, *_: Any, **__: Any) -> int:
    return 2 * prod(x)


def _mean(x: Shape, dim: Sequence[int] | None = None, keepdim: bool = False, **_: Any) -> int:
    # adaptive_avg_pool2d to one pixel arrives as this mean
    spatial = keepdim and dim is not None and {d % len(x) for d in dim} == {len(x) - 2, len(x) - 1}
    return _pool(x) if spatial else 0


def _interpolate(weight: int) -> Callable[..., int]:
    def count(*_: Any, out_shape: Shape, **__: Any) -> int:
        return 2 * weight * prod(out_shape)

    return count


_OPERATORS: Mapping[Any, Callable[..., int]] = {
    aten.native_group_norm: _norm,
    aten.native_layer_norm: _layer_norm,
    aten.native_batch_norm: _batch_norm,
    aten._adaptive_avg_pool2d: _pool,
    aten.mean: _mean,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,  # torch's counter has CUDA's
    aten.upsample_nearest2d: _interpolate(1),
    aten.upsample_bilinear2d: _interpolate(4),
    aten.grid_sampler_2d: _interpolate(4),
    aten.grid_sampler_3d: _interpolate(4),
}

# The counter takes apart an operator whose overload it has no formula for, then counts by operator.
_FORMULAS: dict[Any, Callable[..., int]] = {
    key: formula
    for operator, formula in _OPERATORS.items()
    for key in (operator, *(getattr(operator, name) for name in operator.overloads()))
}


# --- speed and memory ----------------------------------------------------------------------------


SPREADS = ("", "_spread")


def throughput(
    model: Predictor,
    clip: Clip,
    device: torch.device,
    batch_size: int,
    precision: str = "fp32",
    *,
    seconds: float = 0.3,
    repeats: int = 20,
    least: int = 1,
    alone: bool = True,
) -> dict[str, float | None]:
    """Sequences per second in training and in inference, on random frames.

    A training step is the loss, its gradient and an Adam step, launched as in training, by one
    process `alone` or by each of several; it is None without trainable parameters. Inference is the
    prediction of clip.future frames in eval mode.
    Each is called once (on a GPU, three times) to warm up, then until `seconds` have passed or
    `repeats` calls are timed, but `least` calls or more; the median counts, and a GPU is waited
    for. Where one call is enough, a first one that takes `seconds` counts alone on the CPU, where
    nothing is compiled. `..._spread` is half the range between the quartiles, None for fewer than
    four calls. precision: fp32, tf32 (on CUDA) or bf16 (autocast).

    `model` must be on `device`. Its weights, buffers, modes and the random state are as before
    afterwards; gradients are cleared. Raises ValueError for a precision that does not exist.
    """
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [(module, module.training) for module in model.modules()]
    weights = [p for p in model.parameters() if p.requires_grad]

    def measure(name: str, call: Callable[[], object]) -> None:
        rates = [batch_size / s for s in _seconds(call, device, seconds, repeats, least)]
        speeds[name] = statistics.median(rates)
        if len(rates) >= 4:
            low, _, high = statistics.quantiles(rates, method="inclusive")
            speeds[f"{name}_spread"] = (high - low) / 2

    names = ("training_sequences_per_second", "inference_sequences_per_second")
    speeds: dict[str, float | None] = {f"{name}{end}": None for name in names for end in SPREADS}

    with _forked_rng(device), _matmul_precision(device, precision) as autocast:
        shape = (batch_size, clip.frames, clip.channels, clip.height, clip.width)
        sequences = clip.data_range * torch.rand(shape, device=device)
        past, _ = clip.split(sequences)
        try:
            model.eval()
            with torch.no_grad(), autocast:
                measure(names[1], lambda: model(past, clip.future))
            if weights:
                model.train()
                optimiser = torch.optim.Adam(weights, fused=can_fuse(weights))

                gradients = gradients_of(model.loss, clip, autocast)
                launch = at_once(model, device, gradients) if alone else gradients

                def step() -> None:
                    optimiser.zero_grad()
                    launch(sequences)
                    optimiser.step()

                measure(names[0], step)
        finally:
            model.zero_grad()
            model.load_state_dict(state)
            for module, mode in modes:
                module.training = mode
    return speeds


def _seconds(
    call: Callable[[], object], device: torch.device, seconds: float, repeats: int, least: int
) -> list[float]:
    def timed() -> float:
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter() - start

    for _ in range(WARM_UP - 1 if device.type == "cuda" else 0):
        call()
    first = timed()
    if device.type == "cpu" and first >= seconds and least == 1:
        return [first]
    times = [timed()]
    while len(times) < least or (len(times) < repeats and sum(times) < seconds):
        times.append(timed())
    return times


@dataclass
class PeakMemory:
    """Peak memory in bytes, once its context has ended; None where it cannot be measured."""

    bytes: int | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[PeakMemory]:
    """Measure the most memory that the block holds beyond what was held before it.

    On CUDA: of tensors. On the CPU: of the process (resident pages), on Linux where it may reset
    its high-water mark; None elsewhere. Free memory that the process holds is given back first, so
    that a large model does not hide the peak of a small one after it.
    """
    peak = PeakMemory()
    before = _start_peak(device)
    yield peak
    if before is not None:
        peak.bytes = max(0, _peak_bytes(device) - before)


def _start_peak(device: torch.device) -> int | None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    hardware.release_freed_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:  # no Linux, or not permitted
        return None
    return _peak_bytes(device)


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


@contextmanager
def _forked_rng(device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


@contextmanager
def _matmul_precision(device: torch.device, precision: str) -> Iterator[torch.autocast]:
    """Set TF32 as `precision` says; yields the autocast to compute in."""
    if precision not in ("fp32", "tf32", "bf16"):
        raise ValueError(f"precision is {precision!r}; expected 'fp32', 'tf32' or 'bf16'")
    with hardware.tf32(precision == "tf32"):
        yield torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def can_fuse(weights: Iterable[Tensor]) -> bool:
    """Whether Adam can update the weights in one pass: torch cannot so with complex ones."""
    return all(weight.is_floating_point() for weight in weights)
