"""What the server of processes imports once, so that each process begins with it (Linux).

A signal to a whole group, as a terminal or a cluster sends it, must not end the server before the
processes that it has forked have ended in order: it goes when the command goes.
"""

from __future__ import annotations

import signal

import benchmarks.workers  # noqa: F401 - for those who are forked from here

for _name in ("SIGTERM", "SIGHUP"):
    if hasattr(signal, _name):
        signal.signal(getattr(signal, _name), signal.SIG_IGN)
