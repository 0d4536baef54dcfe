"""The process from which rows' processes are forked (Linux): it does their imports once.

The command imports this module first, so that the server's imports, which take seconds, run beside
its own.
"""

from __future__ import annotations

import sys
from multiprocessing import forkserver, get_context
from typing import Any

IMPORTS = ["benchmarks.server_imports"]
# Words of commands that fork no process.
IDLE = {"-h", "--help", "--list", "--report", "cuda", "mps", "--device=cuda", "--device=mps"}


def context(device: str) -> Any:
    """The multiprocessing context for rows on a device: forked where that is safe."""
    if device == "cpu" and sys.platform == "linux":
        forkserver.set_forkserver_preload(IMPORTS)
        return get_context("forkserver")
    return get_context("spawn")


def _start_early() -> None:
    main = getattr(sys.modules["__main__"], "__spec__", None)
    if main is None or main.name != "benchmarks.run" or sys.platform != "linux":
        return
    if IDLE.isdisjoint(sys.argv):
        forkserver.set_forkserver_preload(IMPORTS)
        forkserver.ensure_running()


_start_early()
