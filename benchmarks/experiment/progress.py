"""Progress of a training: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

from tqdm import tqdm

# Bars are drawn from one thread of a process; tqdm's own lock is a semaphore, left behind by a
# process that ends at once.
tqdm.set_lock(threading.RLock())


class Progress:
    """Shows step, loss, learning rate and time left of one training; use as a context manager.

    On a terminal a bar; otherwise a line every `seconds` and one for each epoch.
    """

    def __init__(
        self, label: str, steps: int, done: int, enabled: bool = True, seconds: float = 20.0
    ) -> None:
        self.label, self.steps, self.seconds, self.enabled = label, steps, seconds, enabled
        self._start, self._first, self._printed = time.perf_counter(), done, time.perf_counter()
        self._bar = (
            tqdm(total=steps, initial=done, desc=label, unit="step", dynamic_ncols=True)
            if enabled and sys.stderr.isatty()
            else None
        )
        if enabled and done:
            self.say(f"continued at step {done} of {steps}")

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, step: int, loss: float, lr: float) -> None:
        """Show that `step` steps are done."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {loss:.5f} lr {lr:.2g}", refresh=False)
            self._bar.update(step - self._bar.n)
            return
        now = time.perf_counter()
        if self.enabled and now - self._printed >= self.seconds:
            self._printed = now
            left = (now - self._start) / (step - self._first) * (self.steps - step)
            self.say(f"step {step}/{self.steps} loss {loss:.5f} lr {lr:.2g} {left:.0f} s left")

    def epoch(self, point: dict[str, float]) -> None:
        """Show an epoch's point of the learning curve."""
        self.say(
            f"epoch {point['epoch']:.0f} train loss {point['train_loss']:.5f} "
            f"validation MSE {point['val_mse']:.2f} after {point['seconds']:.0f} s"
        )

    def say(self, text: str) -> None:
        """Print a line, the label in front, above the bar if there is one."""
        if self.enabled:
            tqdm.write(f"{self.label}: {text}", file=sys.stderr)
