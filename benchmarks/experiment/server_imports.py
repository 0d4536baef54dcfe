"""What the server of processes imports once, so that each process begins with it (Linux).

A signal to a whole group, as a terminal or a cluster sends it, must not end the server before the
processes that it has forked have ended in order: it goes when the command goes. Until it is here,
signals wait (see `server`); what is ignored stays so, also in the processes.
"""

from __future__ import annotations

import signal

import torch._dynamo  # noqa: F401 - which an optimiser imports

import benchmarks.experiment.schedule  # noqa: F401 - for those who are forked from here
from benchmarks.experiment.fabric import without_ranks
from benchmarks.experiment.server import GROUP_SIGNALS

with without_ranks():
    import lightning_fabric  # noqa: F401 - takes seconds

for _number in GROUP_SIGNALS:
    if signal.getsignal(_number) is not signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)
signal.pthread_sigmask(signal.SIG_UNBLOCK, GROUP_SIGNALS)
