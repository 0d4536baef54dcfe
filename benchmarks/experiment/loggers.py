"""TensorBoard and Weights & Biases as loggers of Lightning Fabric; imported where they are used."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric.loggers.logger import Logger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from numpy.typing import NDArray

from benchmarks import files

PROJECT = "spatiotemporal-benchmarks"  # on wandb, unless WANDB_PROJECT names another
FLUSH_SECONDS = 2  # after which what TensorBoard's writer was told is in its file
IMAGE = "test/forecast"


class TensorBoard(TensorBoardLogger):
    """Event files in the run's folder of logs; readers drop what earlier ones have after `step`."""

    def __init__(self, folder: Path, step: int) -> None:
        purge = step + 1 if step else 0
        super().__init__(
            folder.parent,
            name="",
            version=folder.name,
            purge_step=purge,
            flush_secs=FLUSH_SECONDS,
            filename_suffix=f".{step}",  # files that begin in one second would have one name
        )

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Write hyper-parameters as text; with metrics, also as TensorBoard's table has them."""
        if args or kwargs:
            super().log_hyperparams(params, *args, **kwargs)
        else:
            text = files.to_json(dict(params), indent=2)
            self.experiment.add_text("hyper-parameters", f"```\n{text}\n```")

    def log_results(
        self,
        params: dict[str, Any],
        metrics: dict[str, float],
        image: NDArray[np.uint8],
        step: int,
    ) -> None:
        """Write the test metrics, which TensorBoard shows beside hyper-parameters, and an image."""
        self.log_hyperparams(params, metrics, step)
        self.experiment.add_image(IMAGE, image, step, dataformats="HWC")


class Wandb(Logger):
    """A run on wandb; its own logger for Fabric needs the package `lightning`, a second Fabric."""

    def __init__(self, folder: Path, identity: str, *, is_offline: bool) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=str(folder.parent),
            id=identity,
            name=folder.name,
            resume="allow",
            mode="offline" if is_offline else None,
            settings=wandb.Settings(silent=True, console="off", disable_git=True),
        )

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self._run.name)

    @property
    def version(self) -> str:
        """The run's identity."""
        return str(self._run.id)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers of a step."""
        self._run.log(dict(metrics), step=step)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Make hyper-parameters the run's configuration."""
        self._run.config.update(params, allow_val_change=True)

    def log_results(
        self,
        params: dict[str, Any],
        metrics: dict[str, float],
        image: NDArray[np.uint8],
        step: int,
    ) -> None:
        """Log the test metrics, also as the run's summary, and an image."""
        import wandb

        self._run.log({**metrics, IMAGE: wandb.Image(image)}, step=step)

    def finalize(self, status: str) -> None:
        """End the run; what it logged is written, and sent unless it is offline."""
        self._run.finish(exit_code=int(status == "failed"))
