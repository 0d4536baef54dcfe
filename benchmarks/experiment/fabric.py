"""Lightning Fabric for one device, or for a group of processes, of torchrun or of --devices.

Variables such as RANK do not tell of a group: other launchers, and a shell inside a Slurm job, set
them around a plain command. Only torchrun is heeded; a group of --devices has its variables.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.data.dataset import random_words

if TYPE_CHECKING:  # its import takes seconds, which a command that trains nothing need not wait
    from lightning_fabric import Fabric

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")  # that Fabric's import reads


def launched_by_torchrun() -> bool:
    """Whether torchrun started this process as one of a group."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def without_ranks() -> Iterator[None]:
    """Hide variables of other launchers from Fabric's import, which trusts them."""
    found = {} if launched_by_torchrun() else {n: os.environ[n] for n in RANKS if n in os.environ}
    for name in found:
        del os.environ[name]
    yield
    os.environ.update(found)


def group_size() -> int:
    """How many processes share each batch: those that torchrun started, else one.

    Raises ValueError for variables that torchrun does not set so.
    """
    if not launched_by_torchrun():
        return 1
    numbers = {}
    for name, least in (("WORLD_SIZE", 1), ("LOCAL_WORLD_SIZE", 1), ("RANK", 0)):
        text = os.environ.get(name, "")
        if not text.isdecimal() or int(text) < least:
            raise ValueError(f"{name} is {text!r}; expected a whole number, as torchrun sets it")
        numbers[name] = int(text)
    if numbers["WORLD_SIZE"] % numbers["LOCAL_WORLD_SIZE"]:
        raise ValueError(
            f"WORLD_SIZE is {numbers['WORLD_SIZE']} and LOCAL_WORLD_SIZE "
            f"{numbers['LOCAL_WORLD_SIZE']}; expected as many processes on each machine"
        )
    return numbers["WORLD_SIZE"]


def is_first_process() -> bool:
    """Whether this process prints and reports: the first of a group, or the only one."""
    return not launched_by_torchrun() or os.environ["RANK"] == "0"


def seed_generators(*names: str | int) -> None:
    """Seed the generators of Python, NumPy and torch by what comes next.

    Whatever a model draws in a step or an evaluation is then a function of the names alone, as a
    run that continues needs it.
    """
    word = int(random_words(1, *names)[0])
    random.seed(word)
    np.random.seed(word % 2**32)  # noqa: NPY002 - the one that models may use
    torch.manual_seed(word >> 1)


def new_group(size: int) -> tuple[object, list[dict[str, str]]]:
    """A new group on this machine: what its processes find each other through, and their variables.

    These are torchrun's. The first is to be kept until the last process has ended.
    """
    host = "127.0.0.1"
    store = torch.distributed.TCPStore(  # type: ignore[attr-defined]
        host, 0, is_master=True, wait_for_workers=False
    )
    common = {
        "TORCHELASTIC_RUN_ID": "devices",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "MASTER_ADDR": host,
        "MASTER_PORT": str(store.port),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "GROUP_RANK": "0",
    }
    ranks = map(str, range(size))
    return store, [{**common, "RANK": rank, "LOCAL_RANK": rank} for rank in ranks]


def make_fabric(device: str, precision: str) -> Fabric:
    """A Fabric that computes on `device` in `precision`, launched."""
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = (
            precision == "tf32"
        )
        torch.backends.cudnn.benchmark = False  # its trials took longer than they saved
    world = group_size()
    local = int(os.environ["LOCAL_WORLD_SIZE"]) if world > 1 else 1
    with without_ranks():
        from lightning_fabric import Fabric
        from lightning_fabric.plugins.environments.lightning import LightningEnvironment
        from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

        # Its import asks for more: a line per row on precision and cores, which the table tells.
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        fabric = Fabric(
            accelerator=device,
            devices=local,
            num_nodes=world // local,
            strategy="ddp" if world > 1 else "auto",
            precision="bf16-mixed" if precision == "bf16" else "32-true",
            plugins=TorchElasticEnvironment() if world > 1 else LightningEnvironment(),
        )
        fabric.launch()
    return fabric
