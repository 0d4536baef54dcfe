"""Training: one loop for every predictor, bit-exact to resume."""

from __future__ import annotations

import math
import signal
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from benchmarks import files
from benchmarks.experiment.capture import WARM_UP, at_once, gradients_of
from benchmarks.experiment.cost import can_fuse
from benchmarks.experiment.evaluate import mean_squared_error
from benchmarks.experiment.fabric import seed_generators
from benchmarks.experiment.group import Group, Synchronised, ranked
from benchmarks.experiment.logs import Log
from benchmarks.experiment.plan import Run
from benchmarks.experiment.progress import Progress
from benchmarks.experiment.spec import Training
from benchmarks.experiment.store import CHECKPOINT, DAMAGED, PREVIOUS
from benchmarks.stopping import Stopped, deferred, is_asked
from tau import Predictor

if TYPE_CHECKING:
    from lightning_fabric import Fabric

WARM_UP_LR, FINAL_LR = 1e-5, 1e-6  # of the cosine schedule
# How long a training on a GPU is that is compiled: TAU takes 1 minute to compile, and saves 2 of 5.
COMPILED_STEPS, COMPILED_MINUTES = 10_000, 5.0


class NonFiniteLossError(RuntimeError):
    """The loss became infinite or not a number; the message names the step."""


class DamagedCheckpointError(Exception):
    """A checkpoint was cut short or changed."""


def is_trainable(model: nn.Module) -> bool:
    """Whether a model has a parameter to train."""
    return any(parameter.requires_grad for parameter in model.parameters())


def is_compiled(run: Run) -> bool:
    """Whether a training on a GPU is timed, or long enough for its compilation to pay."""
    minutes = run.training.minutes  # whose steps are timed before their number is known
    if minutes is not None:
        return run.timed or minutes >= COMPILED_MINUTES
    return run.timed or run.training.steps >= COMPILED_STEPS


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
    folder: Path,
    fabric: Fabric,
    checkpoint_seconds: float | None = None,
    log: Log | None = None,
) -> tuple[Predictor, dict[str, float]]:
    """Train a run's model from its start or its checkpoint; returns it with seconds and steps.

    `new_steps` are those that were not in the checkpoint.

    The batch of a step is a function of (seed, step); what a model draws in it (stochastic depth,
    scheduled sampling) of (seed, step, rank), and in a validation of (seed, epoch, rank). So a
    checkpoint needs no
    generator state and, on the CPU, an interrupted run ends bit-exact equal to an uninterrupted
    one. A checkpoint is written when `Stopped` is raised, after the last epoch, and every
    `checkpoint_seconds` (None: when writing one costs less than 5 % of the time since the one
    before, inside an epoch after 30 s or more); never of data that have changed. The `log` is told
    what a checkpoint holds, once it is written. The last epoch's weights count: none are selected.
    Raises NonFiniteLossError.
    """
    training = run.training
    fabric.seed_everything(run.seed, verbose=False)
    model = run.build()
    if not is_trainable(model):
        return model.to(fabric.device), {"train": 0.0, "steps": 0, "new_steps": 0}

    model.begin_training(training.steps)
    loop = _Loop(run, model, folder, fabric, checkpoint_seconds, log)
    loop.restore()
    first = loop.step
    progress = Progress(run.row.label, training.steps, loop.step, fabric.is_global_zero)
    try:
        loop.run_to_completion(progress)
    except Stopped:
        with deferred():
            loop.save()
        progress.say(f"stopped after step {loop.step} of {training.steps}, checkpoint written")
        raise
    loop.synchronised.undo()
    return model, {"train": loop.clock.seconds, "steps": loop.step, "new_steps": loop.step - first}


class StepTimer:
    """Training steps to be timed, of a model that is thrown away."""

    def __init__(self, run: Run, fabric: Fabric) -> None:
        fabric.seed_everything(run.seed, verbose=False)
        self._device = fabric.device
        steps = 10**6  # of one epoch, after which there would be a validation
        endless = replace(
            run.training,
            epochs=1,
            sequences=steps * run.training.batch_size,
            schedule="constant",
        )
        model = run.build()
        model.begin_training(1)  # a schedule of the model's own is over after the first step
        self._loop = _Loop(replace(run, training=endless), model, Path(), fabric, math.inf)

    def step(self) -> None:
        """Take a step."""
        self._loop.advance()

    def wait(self) -> None:
        """Wait until the steps are done, on a GPU too."""
        self._loop.read_losses()
        if self._device.type == "cuda":
            torch.cuda.synchronize()


class _Loss:
    """A step's loss, and whether a process of the group is asked to stop, on the way to the host.

    Reading them waits for their own step, not for what is queued.
    """

    def __init__(self, loss: Tensor, group: Group) -> None:
        if group.size > 1:
            asked = torch.full_like(loss, float(is_asked()))
            loss = group.sum(torch.stack([loss, asked])) / group.size
        self._copy = loss.to("cpu", non_blocking=True) if loss.is_cuda else loss
        self._copied = torch.cuda.Event() if loss.is_cuda else None
        if self._copied is not None:
            self._copied.record()

    def read(self) -> tuple[float, bool]:
        """The mean over the processes; whether one of them is asked to stop."""
        if self._copied is not None:
            self._copied.synchronize()
        loss, *asked = self._copy.flatten().tolist()
        return loss, any(asked)


class _Loop:
    """The state of a training between two steps, and what a step does to it."""

    def __init__(
        self,
        run: Run,
        model: Predictor,
        folder: Path,
        fabric: Fabric,
        checkpoint_seconds: float | None,
        log: Log | None = None,
    ) -> None:
        if run.device == "cuda" and is_compiled(run):
            # A graph for states with a gradient and without, and for inference when it is timed.
            torch._dynamo.config.cache_size_limit = 32  # recompile_limit from torch 2.7 on
            model.compile()
        self.group = Group.of(fabric)
        self.synchronised = Synchronised(model, fabric.device, self.group)
        self.run, self.model, self.fabric, self.dataset = run, model, fabric, run.dataset
        self.optimiser = make_optimiser(model, run.training)
        self.schedule = make_schedule(self.optimiser, run.training)
        objective, _ = fabric.setup(Objective(model), self.optimiser)
        self.gradients = gradients_of(objective, run.clip, backward=fabric.backward)
        if fabric.world_size == 1:
            self.gradients = at_once(model, fabric.device, self.gradients)
        self.folder, self.path = folder, folder / CHECKPOINT
        self.checkpoint_seconds = checkpoint_seconds
        self.log = log or Log()
        self.step = 0
        self.epochs = 0  # that are finished: validated, and in the curve
        self.curve: list[dict[str, float]] = []
        self.losses: list[float] = []  # of this epoch
        self.last_loss = math.nan
        self.stop_after: int | None = None  # the step at which all processes of a group stop
        self.pending: list[tuple[int, float, _Loss]] = []  # step, its learning rate, its loss
        self.clock = Clock()
        self.saved_at, self.save_seconds = time.perf_counter(), 0.0
        # On a GPU a loss is read while the next step runs, which is queued by then.
        self.lag = 0 if fabric.device.type == "cpu" else 1

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self.schedule.get_last_lr()[0])

    def run_to_completion(self, progress: Progress) -> None:
        """Train from here to the last step, with a validation after each epoch.

        A group stops after one and the same step, whichever of its processes is asked to: so none
        waits for one that is gone, and the first can write a checkpoint.
        """
        with deferred() if self.group.size > 1 else nullcontext():
            self._run_to_completion(progress)
        if self.step == self.stop_after:
            raise Stopped(signal.SIGTERM)  # which was sent to another process

    def _run_to_completion(self, progress: Progress) -> None:
        training = self.run.training
        warm_up = WARM_UP if self.run.device == "cuda" else 0
        first = self.step
        with self.clock.stopped():
            self.log.begin(first, training.steps)
        while True:
            is_epoch = self.step == (self.epochs + 1) * training.steps_per_epoch
            if is_epoch and self.step != self.stop_after:
                self.finish_epoch(progress)
            if self.step in (training.steps, self.stop_after):
                return
            with deferred():
                if self.step - first < warm_up:
                    self.warm_up(is_first=self.step == first)
                else:
                    self.advance()
            progress.update(self.step, self.last_loss, self.lr)

    def warm_up(self, is_first: bool) -> None:
        """One of the first steps after a start on a GPU, which compile or capture: off the clock.

        What compiling and cuDNN's workspaces take in the first is not counted in the peak memory.
        """
        with self.clock.stopped():
            self.advance()
            torch.cuda.synchronize()
            if is_first:
                torch.cuda.reset_peak_memory_stats()

    def advance(self) -> None:
        """One optimiser step."""
        run, fabric = self.run, self.fabric
        rank, processes = self.group
        seed_generators("step", run.seed, self.step, rank)
        of_all = (run.seed, self.step, run.training.batch_size, fabric.device)
        if processes > 1:
            sequences = self.dataset.share(*of_all, rank, processes)
        else:
            sequences = self.dataset.batch(*of_all)
        self.model.train()
        loss = self.gradients(sequences)
        if run.training.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), run.training.max_grad_norm)
        self.pending.append((self.step + 1, self.lr, _Loss(loss, self.group)))
        self.read_losses(self.lag)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.schedule.step()
        self.step += 1
        if fabric.is_global_zero and self._due() and self.step % run.training.steps_per_epoch:
            self.save()

    def read_losses(self, keep: int = 0) -> None:
        """Move all but the `keep` newest losses to the host; stop at one that is not finite."""
        while len(self.pending) > keep:
            step, lr, loss = self.pending.pop(0)
            self.last_loss, asked = loss.read()
            if asked and self.stop_after is None:
                self.stop_after = step + self.lag  # the same in all, whenever they read it
            if not math.isfinite(self.last_loss):
                raise NonFiniteLossError(
                    f"{self.run.row.label}: the loss is {self.last_loss} at step {step} of "
                    f"{self.run.training.steps}; try a lower lr, max_grad_norm, or precision fp32"
                    f"{self._what_stays()}"
                )
            self.losses.append(self.last_loss)
            self.log.step(step, self.last_loss, lr)

    def _what_stays(self) -> str:
        is_there = (self.folder / CHECKPOINT).exists()
        return f". The last good checkpoint stays in {self.folder}" * is_there

    def finish_epoch(self, progress: Progress) -> None:
        """Validate, add a point to the learning curve, save."""
        self.read_losses()
        training, fabric = self.run.training, self.fabric
        with self.clock.stopped():
            point = {
                "epoch": self.step // training.steps_per_epoch,
                "step": self.step,
                "sequences": self.step * training.batch_size,
                "seconds": self.clock.seconds,
                "train_loss": sum(self.losses) / len(self.losses),
                "val_mse": self.validate(),
                "lr": self.lr,
            }
            progress.epoch(point)
            self.log.epoch(point)
            with deferred():
                self.curve.append(point)
                self.epochs += 1
                self.losses = []
                if self.step == training.steps or self._due(at_least=0):
                    self.save()
                elif fabric.is_global_zero:
                    write_curve(self.folder, self.curve)

    def validate(self) -> float:
        """The MSE on the validation sequences, which the processes divide among them."""
        training, group = self.run.training, self.group
        seed_generators("validation", self.run.seed, self.epochs, *ranked(group))
        group.equal_buffers(self.model)
        sequences = self.dataset.validation(
            training.val_sequences, training.batch_size, self.fabric.device
        )
        unit = self.dataset.value_range
        return mean_squared_error(self.model, sequences, self.run.clip, unit, group)

    def save(self) -> None:
        """Write the checkpoint, keeping the one before, and the curve so far, atomically."""
        self.read_losses()
        with self.clock.stopped():
            start = time.perf_counter()
            self.dataset.check_unchanged()
            if self.fabric.is_global_zero:
                state = {
                    "key": self.run.key,
                    "model": self.model.state_dict(),
                    "optimiser": self.optimiser.state_dict(),
                    "schedule": self.schedule.state_dict(),
                    "step": self.step,
                    "epochs": self.epochs,
                    "losses": self.losses,
                    "curve": self.curve,
                    "seconds": self.clock.seconds,
                }
                files.write(
                    self.path,
                    lambda file: torch.save(state, file),
                    previous=self.folder / PREVIOUS,
                )
                write_curve(self.folder, self.curve)
            self.saved_at = time.perf_counter()
            self.save_seconds = self.saved_at - start
            self.log.flush()

    def restore(self) -> None:
        """Continue from the newest checkpoint that is whole, if there is one.

        A damaged one, and what else is in its place, is set aside, never deleted. Raises ValueError
        for one of another run.
        """
        with self.fabric.rank_zero_first():  # which sets aside what the others must not read
            state = self._newest()
        if state is not None:
            self._load(state)
        steps = self.group.gather(self.step)
        if len(set(steps)) > 1:
            raise ValueError(
                f"the processes of the group find other checkpoints in {self.folder}: they would "
                f"continue after the steps {', '.join(map(str, steps))}; --out must be one folder "
                "for all machines, on a file system that they share"
            )

    def _newest(self) -> dict[str, Any] | None:
        state = None
        for path in (self.path, self.folder / PREVIOUS):
            if not (path.exists() or path.is_symlink()):
                continue
            try:
                if state is None:
                    state = read_checkpoint(path, self.run, self.model)
                elif not files.is_file(path):  # the next checkpoint could not take its place
                    raise DamagedCheckpointError(f"it is {files.kind(path)}")
            except DamagedCheckpointError as error:
                if self.fabric.is_global_zero:
                    kept = files.set_aside(path, "damaged")
                    print(f"{path} is damaged ({error}) and kept as {kept}", file=sys.stderr)
        return state

    def _load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.step, self.epochs = state["step"], state["epochs"]
        self.losses, self.curve = state["losses"], state["curve"]
        self.clock = Clock(state["seconds"])
        if self.fabric.is_global_zero:
            write_curve(self.folder, self.curve)

    def _due(self, at_least: float = 30.0) -> bool:
        wait = self.checkpoint_seconds
        if wait is None:  # less than 5 % of the time
            wait = max(at_least, 20 * self.save_seconds)
        return time.perf_counter() - self.saved_at >= wait


def read_checkpoint(path: Path, run: Run, model: nn.Module) -> dict[str, Any]:
    """The state of `run` in a checkpoint, on the CPU, its checksums compared.

    Raises DamagedCheckpointError for a file that is not whole or cannot be of this training, and
    ValueError for one of another run.
    """
    try:
        with zipfile.ZipFile(files.check_regular(path)) as archive:
            if (broken := archive.testzip()) is not None:  # torch.load does not compare these
                raise ValueError(f"the checksum of {broken} is wrong")
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        shapes = {name: tensor.shape for name, tensor in state["model"].items()}
        if shapes != {name: tensor.shape for name, tensor in model.state_dict().items()}:
            raise ValueError("its weights have other names or shapes")
        training = run.training
        since_epoch = state["step"] - state["epochs"] * training.steps_per_epoch
        if not (state["step"] <= training.steps and 0 <= since_epoch <= training.steps_per_epoch):
            raise ValueError(f"it is of step {state['step']} of {training.steps}")
        key = state["key"]
    except DAMAGED as error:
        raise DamagedCheckpointError(
            " ".join(str(error).split()) or type(error).__name__
        ) from error
    if key != run.key:
        raise ValueError(f"{path} belongs to run {key}, not {run.key}; move it away")
    return state


def write_curve(folder: Path, curve: list[dict[str, float]]) -> None:
    """Write curve.jsonl: one line for each epoch."""
    files.write_text(folder / "curve.jsonl", "".join(f"{files.to_json(p)}\n" for p in curve))


def make_optimiser(model: nn.Module, training: Training) -> Optimizer:
    """Adam or AdamW with betas 0.9 and 0.999, fused (see `can_fuse`) where it can be."""
    kind: type[Adam] = {"adam": Adam, "adamw": AdamW}[training.optimiser]
    return kind(
        model.parameters(),
        lr=training.lr,
        weight_decay=training.weight_decay,
        fused=can_fuse(model.parameters()),
    )


def cosine(epoch: int, training: Training) -> float:
    """The learning rate of an epoch as a fraction of the peak: linear warm-up, then a cosine.

    As timm's scheduler, with which TAU was released for TaxiBJ: from 1e-5 over the first tenth
    of the epochs (5 of 50), to 1e-6; the cosine counts epochs from the start of training.
    """
    assert training.epochs is not None
    peak, epochs = training.lr, training.epochs
    warm_up = epochs // 10
    if epoch < warm_up:
        return (WARM_UP_LR + epoch * (peak - WARM_UP_LR) / warm_up) / peak
    swing = (1 + math.cos(math.pi * epoch / epochs)) / 2
    return (FINAL_LR + swing * (peak - FINAL_LR)) / peak


def make_schedule(optimiser: Optimizer, training: Training) -> LRScheduler:
    """The schedule of `Training`, stepped after every optimiser step."""
    if training.schedule == "constant":
        return LambdaLR(optimiser, lambda step: 1.0)
    if training.schedule == "cosine":
        return LambdaLR(optimiser, lambda step: cosine(step // training.steps_per_epoch, training))
    return OneCycleLR(
        optimiser,
        max_lr=training.lr,
        total_steps=training.steps,
        pct_start=0.3,
        anneal_strategy="cos",
        div_factor=25,
        final_div_factor=1e4,
    )
