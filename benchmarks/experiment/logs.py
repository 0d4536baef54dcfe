"""What loggers are told of a run: TensorBoard and Weights & Biases, both as Fabric's loggers.

Each run, of a row on a data set with a seed, is one run there. A logger is told of steps once their
checkpoint is written, so a run that continues repeats none. Nothing of it enters a run's key.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import files
from benchmarks.experiment.fabric import without_ranks
from benchmarks.experiment.progress import LONGEST, Warned, tell
from benchmarks.names import printable
from benchmarks.stopping import Stopped, deferred

if TYPE_CHECKING:
    from benchmarks.experiment.loggers import TensorBoard, Wandb

TENSORBOARD, WANDB, WANDB_OFFLINE = LOGGERS = ("tensorboard", "wandb", "wandb-offline")
POINTS = 1000  # of a training's loss, at most
SILENT = ("offline", "dryrun", "disabled")  # modes in which wandb sends nothing
WANDB_RUN = "wandb.json"  # holds the identity of a run there


def logs_of(runs: Path) -> Path:
    """Where the logs of runs in the folder `runs` lie, beside it."""
    return runs.parent / "logs"


def check_loggers(names: Sequence[str]) -> None:
    """Raise ModuleNotFoundError for a logger that is not installed, ValueError for one not set up.

    wandb sends what it logs, unless it is set up to work offline: it must be logged in.
    """
    if WANDB in names and WANDB_OFFLINE in names:
        raise ValueError(f"--log has both {WANDB} and {WANDB_OFFLINE}; leave one out")
    if TENSORBOARD in names and not (_has("tensorboardX") or _has("tensorboard")):
        raise ModuleNotFoundError("--log tensorboard needs tensorboardX: pip install tensorboardX")
    if {WANDB, WANDB_OFFLINE} & set(names) and not _has("wandb"):
        raise ModuleNotFoundError("--log wandb needs wandb: pip install wandb")
    if WANDB in names:
        import wandb

        if wandb.setup().settings.mode not in SILENT and not wandb.login(prompt=False):
            raise ValueError(
                "--log wandb sends the logs to your account there, but you are not logged in: run "
                "`wandb login`, or keep the logs here with --log wandb-offline"
            )


def _has(package: str) -> bool:
    """Whether a package is installed; a folder of its name, as wandb makes them, is none."""
    found = find_spec(package)
    return found is not None and found.origin is not None


class Log:
    """What a run's loggers are told, and when; use as a context manager. Without names, nothing.

    `folder` is the run's own among the logs. A logger that fails is told of in a line, and left
    out; the run goes on.
    """

    def __init__(
        self,
        names: Sequence[str] = (),
        folder: Path = Path(),
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self.names, self.folder, self.params = names, folder, dict(params or {})
        self._every = 1
        self._loggers: dict[str, TensorBoard | Wandb] | None = None  # None: not begun
        self._waiting: list[tuple[int, dict[str, float]]] = []

    def __enter__(self) -> Log:
        for name in self.names:  # now, so that what they take is not in a run's peak memory
            _import(name)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stopped = kind is not None and issubclass(kind, Stopped)
        status = "aborted" if stopped else "failed" if kind else "success"
        if status == "failed":
            self.flush()  # what led to it
        self._tell(lambda logger: logger.finalize(status))

    def begin(self, step: int, steps: int) -> None:
        """Begin the run, or continue it after `step` of `steps`; tell its hyper-parameters."""
        self._every = max(1, math.ceil(steps / POINTS))
        self._loggers = {}
        for name in self.names:
            try:
                self._loggers[name] = _make(name, self.folder, step)
            except Exception as error:  # whatever fails there
                _give_up(name, error)
        self._tell(lambda logger: logger.log_hyperparams(self.params))

    def step(self, step: int, loss: float, lr: float) -> None:
        """Take the loss and the learning rate of a step, one of every few."""
        if self.names and step % self._every == 0:
            self._waiting.append((step, {"train/loss": loss, "train/lr": lr}))

    def epoch(self, point: Mapping[str, float]) -> None:
        """Take a point of the learning curve."""
        if self.names:
            numbers = {"validation/mse": point["val_mse"], "epoch/train_loss": point["train_loss"]}
            self._waiting.append((int(point["step"]), {**numbers, "epoch/number": point["epoch"]}))

    def flush(self) -> None:
        """Tell what was taken so far."""
        waiting, self._waiting = self._waiting, []
        for step, numbers in waiting:
            self._tell(lambda logger, n=numbers, s=step: logger.log_metrics(n, s))  # type: ignore[misc]
        self._tell(lambda logger: logger.save())

    def end(self, record: Mapping[str, Any], samples: Mapping[str, NDArray[np.float32]]) -> None:
        """Tell the test metrics, the hyper-parameters beside them, and the first sample."""
        if not self.names:
            return
        if self._loggers is None:  # nothing was trained
            self.begin(0, 0)
        step = record["steps"]
        metrics = {f"test/{name}": value for name, value in record["means"].items()}
        metrics |= {f"cost/{name}": record["cost"][name] for name in ("parameters", "macs")}
        image = strip(samples)
        self._tell(lambda logger: logger.log_results(self.params, metrics, image, step))

    def _tell(self, call: Callable[[TensorBoard | Wandb], object]) -> None:
        for name, logger in list((self._loggers or {}).items()):
            try:
                with deferred():
                    call(logger)
            except Exception as error:  # whatever fails there: a full disk, a lost connection
                assert self._loggers is not None
                del self._loggers[name]
                _give_up(name, error)


def strip(samples: Mapping[str, NDArray[np.float32]]) -> NDArray[np.uint8]:
    """The first sample as an image [height, width, 3]: input and truth, the prediction below.

    Of frames that are neither gray nor RGB the first channel is shown.
    """
    past, future, prediction = (samples[name][0] for name in ("past", "future", "prediction"))
    blank = np.ones_like(past)
    rows = [np.concatenate(parts) for parts in ((past, future), (blank, prediction))]
    frames = np.nan_to_num(np.stack(rows))  # [row, time, channel, height, width]
    if frames.shape[2] != 3:
        frames = np.repeat(frames[:, :, :1], 3, axis=2)
    framed = np.pad(frames, [(0, 0)] * 3 + [(1, 1)] * 2, constant_values=1.0)
    rows_of, times, channels, height, width = framed.shape
    image = framed.transpose(0, 3, 1, 4, 2).reshape(rows_of * height, times * width, channels)
    return np.round(255 * image.clip(0, 1)).astype(np.uint8)


def _import(name: str) -> None:
    with without_ranks():
        import_module("benchmarks.experiment.loggers")
    if name != TENSORBOARD:
        import_module("wandb")
    else:  # in the order in which Fabric's logger looks for them
        import_module("torch.utils.tensorboard" if _has("tensorboard") else "tensorboardX")


def _make(name: str, folder: Path, step: int) -> TensorBoard | Wandb:
    """The logger of that name; it continues after `step`."""
    from benchmarks.experiment.loggers import TensorBoard, Wandb

    folder.mkdir(parents=True, exist_ok=True)
    if name == TENSORBOARD:
        return TensorBoard(folder, step)
    path = folder / WANDB_RUN
    if not path.exists():
        files.write_json(path, {"id": secrets.token_hex(6)})
    identity = files.read_json(path, "move it away, and a new run begins there")["id"]
    return Wandb(folder, identity, is_offline=name == WANDB_OFFLINE)


def _give_up(name: str, error: Exception) -> None:
    said = printable(f"{type(error).__name__}: {error}")
    text = f"--log {name} fails, and the run goes on without it: {said}"[:LONGEST]
    tell(Warned(text, is_error=True))
