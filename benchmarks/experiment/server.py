"""The process from which rows' processes are forked (Linux): it does their imports once.

The command imports this module first, so that the server's imports, which take seconds, run beside
its own.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from multiprocessing import forkserver, get_context
from typing import Any

from benchmarks.command import open_closed_streams, refuse_hidden_packages
from benchmarks.stopping import SIGNALS

IMPORTS = ["benchmarks.experiment.server_imports"]
# Words of commands that fork no process.
IDLE = {
    *("-h", "--help", "--list", "--report", "--on"),
    *("cuda", "mps", "--device=cuda", "--device=mps"),
}

# Those that schedulers and terminals send to all processes of a command.
GROUP_SIGNALS = [number for number in SIGNALS if number != signal.SIGINT]


def context(device: str) -> Any:
    """The multiprocessing context for rows on a device: forked where that is safe."""
    if device == "cpu" and sys.platform == "linux":
        _start()
        return get_context("forkserver")
    return get_context("spawn")


def _start_early() -> None:
    main = getattr(sys.modules["__main__"], "__spec__", None)
    if main is None or main.name != "benchmarks.run":
        return
    refuse_hidden_packages()
    if sys.platform != "linux":
        return
    open_closed_streams()  # before the server takes their numbers
    under_torchrun = "TORCHELASTIC_RUN_ID" in os.environ  # which has started the processes
    if IDLE.isdisjoint(sys.argv) and not under_torchrun:
        with suppress(OSError):  # of a folder that is gone, which the command itself will tell
            _start()


def _start() -> None:
    """Start the server, unless it runs; signals reach it once it can handle them."""
    forkserver.set_forkserver_preload(IMPORTS)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_start_early()
