import ctypes
import json
import mmap
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.experiment import hardware as heap

on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")

# Training steps in the main thread, then in another: buffers of 48 MiB, above the 32 MiB that
# glibc's thresholds reach.
TRAINING = """
import ctypes, json, sys, threading
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: of huge pages, faults would be few
from benchmarks.experiment import hardware as heap
kept = [heap.keep_freed_memory(), heap.keep_freed_memory()] if sys.argv[1] == "keep" else []
import torch
torch.set_num_threads(1)
faults = []

def train(steps):
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 12, 1), torch.nn.GELU(), torch.nn.Conv2d(12, 1, 1))
    frames = torch.ones(1, 1, 1024, 1024)
    for _ in range(steps):
        before = heap.minor_faults()
        net(frames).square().mean().backward()
        faults.append(heap.minor_faults() - before)

def resident():
    return int(open("/proc/self/statm").read().split()[1])

train(int(sys.argv[2]))
thread = threading.Thread(target=train, args=(int(sys.argv[3]),))
thread.start()
thread.join()
before = resident()
heap.release_freed_memory()
print(json.dumps({"kept": kept, "faults": faults, "released": before - resident()}))
"""
MAIN_STEPS, THREAD_STEPS = 6, 6
BUFFER = 48 * 2**20 // os.sysconf("SC_PAGE_SIZE")  # pages


def start_training(how: str) -> subprocess.Popen:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    environment["PYTHONPATH"] = str(Path(heap.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-c", TRAINING, how, str(MAIN_STEPS), str(THREAD_STEPS)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


@on_glibc
@pytest.mark.slow
def test_kept_memory_is_not_faulted_in_again_until_it_is_given_back():
    """In the main thread and in another, whose heap grows in its first steps."""
    started = {how: start_training(how) for how in ("stock", "keep")}
    outputs = {how: process.communicate(timeout=600)[0] for how, process in started.items()}
    assert [process.returncode for process in started.values()] == [0, 0]
    trainings = {how: json.loads(output) for how, output in outputs.items()}
    assert min(trainings["stock"]["faults"]) > 3 * BUFFER  # activations and their gradients
    for steps in (slice(0, MAIN_STEPS), slice(MAIN_STEPS, None)):
        stock, kept = (trainings[how]["faults"][steps] for how in ("stock", "keep"))
        assert sum(kept[2:]) < sum(stock[2:]) / 5  # the heap may still grow now and then
        assert min(kept) < 100
    assert trainings["keep"]["kept"] == [True, True], "keeping twice is keeping"
    assert trainings["keep"]["released"] > 3 * BUFFER


def test_minor_faults_count_new_pages():
    page = os.sysconf("SC_PAGE_SIZE")
    with mmap.mmap(-1, 1000 * page) as pages:
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            pages.madvise(mmap.MADV_NOHUGEPAGE)
        before = heap.minor_faults()
        for i in range(1000):
            pages[i * page] = 1
        assert 1000 <= heap.minor_faults() - before < 1100


# --- where nothing may be done -------------------------------------------------------------------


class FakeLibrary:
    """A C library that records what is asked of it."""

    def __init__(self, accepts=True):
        self.settings, self.trimmed, self.accepts = {}, 0, accepts
        self.malloc = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t)(lambda size: None)

    def mallopt(self, key, value):
        self.settings[key] = value
        return int(self.accepts)

    def malloc_trim(self, pad):
        self.trimmed += 1
        return 1


@pytest.fixture
def glibc(monkeypatch):
    """Runs on a fake glibc, without a user's settings."""
    library = FakeLibrary()
    monkeypatch.setattr(heap.platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: library)
    for name in list(os.environ):
        if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES":
            monkeypatch.delenv(name)
    return library


def test_glibc_is_told_to_map_nothing_and_shrink_never(glibc):
    assert heap.keep_freed_memory()
    assert glibc.settings == {-4: 0, -1: -1, -8: 1}
    heap.release_freed_memory()
    assert glibc.trimmed == 1


@pytest.mark.parametrize("libc", [("", ""), ("musl", "1.2.5")])
def test_other_systems_are_left_alone(glibc, monkeypatch, libc):
    monkeypatch.setattr(heap.platform, "libc_ver", lambda: libc)
    assert not heap.keep_freed_memory()
    heap.release_freed_memory()
    assert not glibc.settings and not glibc.trimmed


def test_another_allocator_is_left_alone(glibc, monkeypatch):
    preloaded = FakeLibrary()  # its malloc comes first, as with LD_PRELOAD
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: glibc if name else preloaded)
    assert not heap.keep_freed_memory()
    heap.release_freed_memory()
    for library in (glibc, preloaded):
        assert not library.settings and not library.trimmed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MALLOC_TRIM_THRESHOLD_", "131072"),
        ("MALLOC_ARENA_MAX", "4"),
        ("GLIBC_TUNABLES", "glibc.rtld.nns=4:glibc.malloc.hugetlb=1"),
    ],
)
def test_a_users_own_settings_hold(glibc, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert not heap.keep_freed_memory()
    assert not glibc.settings


def test_tunables_of_something_else_do_not_matter(glibc, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.rtld.nns=4")
    assert heap.keep_freed_memory()


def test_a_refusal_is_not_reported_as_success(glibc):
    glibc.accepts = False
    assert not heap.keep_freed_memory()
