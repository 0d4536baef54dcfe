"""Device, precision, processor and the C library's heap.

The heap keeps what is freed, instead of giving it back and faulting it in.

glibc maps every buffer above 32 MiB anew and gives it back when it is freed, and shrinks its heap
whenever the top of it is free. A training step on the CPU frees all its activations, so it takes
each of their pages from the kernel again, zeroed: hundreds of thousands of page faults per step.

Measured (2 cores, AVX2, TAU, batch 16): small size 400,000 faults per step to 0, 1.6 to 1.8 times
faster, peak 1.2 to 1.5 GiB; paper's size 4 million to 0, 2.2 to 2.6 times faster, 6.0 to 7.1 GiB.
The peak does not grow after the first steps, nor over several models in turn. Huge pages
(GLIBC_TUNABLES=glibc.malloc.hugetlb=1) add nothing to it.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.experiment.spec import PRECISIONS
from benchmarks.names import choose

# Keys of mallopt (malloc.h)
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, for its next step; returns whether it does.

    For the whole process and for good; call it first, before threads exist. Resident memory then
    stays at its peak until `release_freed_memory`. Does nothing and returns False where the C
    library is not glibc, where another allocator replaces its malloc, and where the user has set
    malloc's own variables (MALLOC_*, GLIBC_TUNABLES), which are left to hold.
    """
    glibc = _glibc()
    if glibc is None or _user_has_set_malloc():
        return False
    settings = {
        _M_MMAP_MAX: 0,  # large buffers come from the heap; the threshold's own limit is 32 MiB
        _M_TRIM_THRESHOLD: -1,  # the heap never shrinks by itself
        _M_ARENA_MAX: 1,  # one heap for all threads: a thread's own is made of small mappings
    }
    return all(glibc.mallopt(key, value) == 1 for key, value in settings.items())


def release_freed_memory() -> None:
    """Give the heap's free pages back to the system, where the C library is glibc."""
    glibc = _glibc()
    if glibc is not None:
        glibc.malloc_trim(0)


def minor_faults() -> int:
    """Pages that this process has taken from the kernel so far, without disk access (Unix)."""
    import resource  # Unix only

    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _glibc() -> ctypes.CDLL | None:
    """The C library, if it is glibc and the process's malloc is its own."""
    if platform.libc_ver()[0] != "glibc":
        return None
    glibc = ctypes.CDLL("libc.so.6")
    address = {ctypes.cast(lib.malloc, ctypes.c_void_p).value for lib in (glibc, ctypes.CDLL(None))}
    return glibc if len(address) == 1 else None


def _user_has_set_malloc() -> bool:
    return "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "") or any(
        name.startswith("MALLOC_") for name in os.environ
    )


class Machine(NamedTuple):
    """What a machine computes with, as far as a plan asks for it."""

    devices: frozenset[str]  # that torch finds
    bf16: frozenset[str]  # those that multiply bfloat16 in hardware
    tf32: bool  # on its CUDA GPU


def this_machine(asked: str = "auto") -> Machine:
    """What this process finds; it looks for the device that is asked for, besides the CPU."""
    cuda = asked in ("auto", "cuda") and torch.cuda.is_available()
    mps = asked in ("auto", "mps") and torch.backends.mps.is_available()
    devices = frozenset(["cpu"] + ["cuda"] * cuda + ["mps"] * mps)
    return Machine(
        devices,
        bf16=frozenset(device for device in devices if has_native_bf16(device)),
        tf32=cuda and torch.cuda.get_device_capability() >= (8, 0),
    )


def elsewhere(device: str) -> Machine:
    """A machine that has this device, which this one need not have."""
    return Machine(frozenset({"cpu", device}), bf16=frozenset({"cuda"}), tf32=device == "cuda")


def choose_device(asked: str, machine: Machine | None = None) -> str:
    """The device that was asked for; for "auto" a CUDA GPU if there is one.

    `machine` computes (None: this one). Raises ValueError for a device that it has not.
    """
    devices = (machine or this_machine(asked)).devices
    if asked == "auto":
        return "cuda" if "cuda" in devices else "cpu"
    if asked not in devices:
        raise ValueError(f"--device {asked}, but torch finds no such GPU; use --device cpu")
    return asked


def gpus() -> list[str]:
    """The CUDA GPUs that this process may use, each as CUDA_VISIBLE_DEVICES names it.

    Where the variable is set, its entries are kept as they are: numbers, UUIDs, and MIG instances,
    of which a process sees the first alone, and each of several processes one of its own.
    """
    count = torch.cuda.device_count()
    names = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    if not any(names):
        return [str(number) for number in range(count)]
    if count and all(name.startswith("MIG-") for name in names):
        return names
    return names[:count]


def check_devices(devices: int | None, device: str) -> None:
    """Raise ValueError if a machine has not so many of a device to share a training."""
    if devices is None or devices == 1 or device == "cpu":
        return
    if device != "cuda":
        raise ValueError(f"--devices {devices}, but {device} is one GPU; leave it out")
    names = gpus()
    if any(name.startswith("MIG-") for name in names):
        raise ValueError(
            f"--devices {devices}, but MIG instances cannot share a training: NCCL joins whole GPUs"
            "; leave it out, and --jobs trains a row on each"
        )
    if devices > len(names):
        raise ValueError(
            f"--devices {devices}, but this process may use {len(names)} GPU"
            f"{'s' * (len(names) != 1)} ({', '.join(names)}); expected at most {len(names)}"
        )


def resolve_precision(precision: str, device: str, machine: Machine | None = None) -> str:
    """Turn "auto" into bf16 where the device computes it natively, else fp32.

    `machine` computes (None: this one). Raises ValueError for a precision that the device has not:
    tf32 off CUDA, bf16 without native support on CUDA.
    """
    choose("precision", precision, PRECISIONS)
    machine = machine or this_machine(device)
    if precision == "auto":
        return "bf16" if device in machine.bf16 else "fp32"
    if precision == "tf32" and not (device == "cuda" and machine.tf32):
        raise ValueError("precision 'tf32' needs an NVIDIA GPU of compute capability 8 or more")
    if precision == "bf16" and device != "cpu" and device not in machine.bf16:
        raise ValueError("precision 'bf16' is not native on this GPU; use fp32")
    return precision


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether CUDA may round what it multiplies to TF32, inside; afterwards as before."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def has_native_bf16(device: str) -> bool:
    """Whether the device multiplies bfloat16 in hardware (CPU: AVX512-BF16 or AMX; GPU: native)."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    cpuinfo = Path("/proc/cpuinfo")  # of Linux
    if device == "cpu" and cpuinfo.is_file():
        words = cpuinfo.read_text(encoding="utf-8", errors="replace").split()
        return not {"avx512_bf16", "amx_bf16"}.isdisjoint(words)
    return False
