"""Training: one loop for every predictor, resumable to the bit."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from benchmarks import files
from benchmarks.data import Dataset
from benchmarks.data.dataset import random_words
from benchmarks.evaluate import mean_squared_error
from benchmarks.progress import Progress
from benchmarks.suite import Run, Training
from tau import Predictor

WARM_UP_RATE, FINAL_RATE = 1e-5, 1e-6  # of the cosine schedule


class NonFiniteLossError(RuntimeError):
    """The loss became infinite or not a number; the message names the step."""


class Objective(nn.Module):
    """A predictor's loss as a module, so that wrappers (autocast, data-parallel) see a forward."""

    def __init__(self, model: Predictor) -> None:
        super().__init__()
        self.model = model

    def forward(self, past: Tensor, future: Tensor) -> Tensor:
        """The predictor's loss."""
        return self.model.loss(past, future)


class Clock:
    """Seconds of training, without validation, checkpoints and, on a GPU, compiling."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._since: float | None = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        running = 0.0 if self._since is None else time.perf_counter() - self._since
        return self._seconds + running

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Do not count what happens inside; may be nested."""
        self._seconds, since, self._since = self.seconds, self._since, None
        yield
        self._since = since and time.perf_counter()


def train(
    run: Run,
    dataset: Dataset,
    folder: Path,
    fabric: Fabric,
    checkpoint_seconds: float | None = None,
) -> tuple[Predictor, dict[str, float]]:
    """Train a run's model from its start or its checkpoint; returns it with seconds and steps.

    The randomness of a step (its batch, stochastic depth, scheduled sampling) is a function of
    (seed, step, rank), so a checkpoint needs no generator state and, on the CPU, an interrupted
    run ends equal to an uninterrupted one to the bit. A checkpoint is written after each epoch
    and, inside an epoch, every `checkpoint_seconds` (None: 20 times what writing one takes, at
    least 30 s). The last epoch's weights count: none are selected. Raises NonFiniteLossError.
    """
    training = run.training
    fabric.seed_everything(run.seed, verbose=False)
    model = run.build()
    if not any(p.requires_grad for p in model.parameters()):
        return model.to(fabric.device), {"train": 0.0, "steps": 0}

    if run.device == "cuda":
        # The last batch, few clips, and each with and without a gradient: one graph for each.
        torch._dynamo.config.recompile_limit = 32
        model.compile()
    optimiser = make_optimiser(model, training)
    schedule = make_schedule(optimiser, training)
    objective, _ = fabric.setup(Objective(model), optimiser)
    loop = _Loop(run, model, optimiser, schedule, folder, fabric, checkpoint_seconds)
    loop.restore()
    progress = Progress(run.row.label, training.steps, loop.step, enabled=fabric.is_global_zero)
    with progress:
        advance = loop.compile if run.device == "cuda" else loop.advance
        while loop.step < training.steps:
            advance(objective, dataset)
            advance = loop.advance
            progress.update(loop.step, loop.last_loss, loop.rate)
            if loop.step % training.steps_per_epoch == 0:
                loop.finish_epoch(dataset, progress)
    return model, {"train": loop.clock.seconds, "steps": loop.step}


class _Loop:
    """The state of a training between two steps, and what a step does to it."""

    def __init__(
        self,
        run: Run,
        model: Predictor,
        optimiser: Optimizer,
        schedule: LRScheduler,
        folder: Path,
        fabric: Fabric,
        checkpoint_seconds: float | None,
    ) -> None:
        self.run, self.model, self.fabric = run, model, fabric
        self.optimiser, self.schedule = optimiser, schedule
        self.folder, self.path = folder, folder / "checkpoint.pt"
        self.checkpoint_seconds = checkpoint_seconds
        self.step = 0
        self.curve: list[dict[str, float]] = []
        self.losses: list[float] = []  # of this epoch
        self.last_loss = math.nan
        self.pending: list[tuple[int, Tensor]] = []
        self.clock = Clock()
        self.saved_at, self.save_seconds = time.perf_counter(), 0.0
        # On a GPU a loss is read while the next step runs, so that reading it never waits.
        self.lag = 0 if fabric.device.type == "cpu" else 1

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.schedule.get_last_lr()[0])

    def compile(self, objective: nn.Module, dataset: Dataset) -> None:
        """The first step after a start on a GPU, which compiles: not on the clock.

        What compiling and cuDNN's trials of algorithms take is not counted in the peak memory.
        """
        with self.clock.stopped():
            self.advance(objective, dataset)
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()

    def advance(self, objective: nn.Module, dataset: Dataset) -> None:
        """One optimiser step."""
        run, fabric = self.run, self.fabric
        workers, rank = fabric.world_size, fabric.global_rank
        torch.manual_seed(int(random_words(1, "step", run.seed, self.step, rank)[0] >> 1))
        clips = dataset.batch(
            run.seed,
            self.step * workers + rank,
            run.training.batch_size // workers,
            fabric.device,
        )
        self.model.train()
        loss = objective(*run.clip.split(clips))
        fabric.backward(loss)
        if run.training.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), run.training.clip_norm)
        self.pending.append((self.step + 1, loss.detach()))
        self.read_losses(self.lag)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.schedule.step()
        self.step += 1
        if self._due() and self.step % run.training.steps_per_epoch:
            self.save()

    def read_losses(self, keep: int = 0) -> None:
        """Move all but the `keep` newest losses to the host; stop at one that is not finite."""
        while len(self.pending) > keep:
            step, loss = self.pending.pop(0)
            self.last_loss = float(loss)
            if not math.isfinite(self.last_loss):
                raise NonFiniteLossError(
                    f"{self.run.row.label}: the loss is {self.last_loss} at step {step} of "
                    f"{self.run.training.steps}; try a lower rate, clip_norm, or precision fp32. "
                    f"The last good checkpoint stays in {self.folder}"
                )
            self.losses.append(self.last_loss)

    def finish_epoch(self, dataset: Dataset, progress: Progress) -> None:
        """Validate, add a point to the learning curve, save."""
        self.read_losses()
        training, fabric = self.run.training, self.fabric
        with self.clock.stopped():
            if fabric.is_global_zero:
                clips = dataset.validation(training.validation, training.batch_size, fabric.device)
                point: dict[str, float] = {
                    "epoch": self.step // training.steps_per_epoch,
                    "step": self.step,
                    "sequences": self.step * training.batch_size,
                    "seconds": self.clock.seconds,
                    "train_loss": sum(self.losses) / len(self.losses),
                    "val_mse": mean_squared_error(self.model, clips),
                    "rate": self.rate,
                }
                self.curve.append(point)
                progress.epoch(point)
            self.losses = []
            self.save()
            fabric.barrier()

    def save(self) -> None:
        """Write the checkpoint and the curve so far, atomically."""
        self.read_losses()
        with self.clock.stopped():
            start = time.perf_counter()
            if self.fabric.is_global_zero:
                state = {
                    "key": self.run.key,
                    "model": self.model.state_dict(),
                    "optimiser": self.optimiser.state_dict(),
                    "schedule": self.schedule.state_dict(),
                    "step": self.step,
                    "losses": self.losses,
                    "curve": self.curve,
                    "seconds": self.clock.seconds,
                }
                files.write(self.path, lambda file: torch.save(state, file))
                write_curve(self.folder, self.curve)
            self.saved_at = time.perf_counter()
            self.save_seconds = self.saved_at - start

    def restore(self) -> None:
        """Continue from the checkpoint, if there is one."""
        if not self.path.exists():
            return
        state: dict[str, Any] = torch.load(
            self.path, map_location=self.fabric.device, weights_only=True
        )
        if state["key"] != self.run.key:
            raise ValueError(
                f"{self.path} belongs to run {state['key']}, not {self.run.key}; move it away"
            )
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.step, self.losses, self.curve = state["step"], state["losses"], state["curve"]
        self.clock = Clock(state["seconds"])
        if self.fabric.is_global_zero:
            write_curve(self.folder, self.curve)

    def _due(self) -> bool:
        wait = self.checkpoint_seconds
        if wait is None:
            wait = max(30.0, 20 * self.save_seconds)
        return time.perf_counter() - self.saved_at >= wait


def write_curve(folder: Path, curve: list[dict[str, float]]) -> None:
    """Write curve.jsonl: one line for each epoch."""
    files.write_text(folder / "curve.jsonl", "".join(f"{files.to_json(p)}\n" for p in curve))


def make_optimiser(model: nn.Module, training: Training) -> Optimizer:
    """Adam or AdamW with betas 0.9 and 0.999, in its fused form (one pass over the weights)."""
    kind: type[Adam] = {"adam": Adam, "adamw": AdamW}[training.optimiser]
    return kind(
        model.parameters(), lr=training.rate, weight_decay=training.weight_decay, fused=True
    )


def cosine(epoch: int, training: Training) -> float:
    """The rate of an epoch as a fraction of the peak: linear warm-up, then a cosine.

    As timm's scheduler, with which TAU was released for TrafficBJ: from 1e-5 over the first tenth
    of the epochs (5 of 50), to 1e-6; the cosine counts epochs from the start of training.
    """
    peak, epochs = training.rate, training.epochs
    warm_up = epochs // 10
    if epoch < warm_up:
        return (WARM_UP_RATE + epoch * (peak - WARM_UP_RATE) / warm_up) / peak
    swing = (1 + math.cos(math.pi * epoch / epochs)) / 2
    return (FINAL_RATE + swing * (peak - FINAL_RATE)) / peak


def make_schedule(optimiser: Optimizer, training: Training) -> LRScheduler:
    """The schedule of `Training`, stepped after every optimiser step."""
    if training.schedule == "constant":
        return LambdaLR(optimiser, lambda step: 1.0)
    if training.schedule == "cosine":
        return LambdaLR(optimiser, lambda step: cosine(step // training.steps_per_epoch, training))
    return OneCycleLR(
        optimiser,
        max_lr=training.rate,
        total_steps=training.steps,
        pct_start=0.3,
        anneal_strategy="cos",
        div_factor=25,
        final_div_factor=1e4,
    )
