"""Speed and memory of preparing data: `python -m pytest -s benchmarks/speed/bench_prepare.py`.

Each reader gets files in the official format, prepares them in a process of its own, and opens them
again in another, so that memory is its own too. The files were just written and are read from
memory: this is the speed of decoding, not of a disk.
"""

import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from official_files import (
    dates,
    encode_jpeg,
    kth_list,
    released,
    write_drive,
    write_hdf5,
    write_images,
    write_kitti,
    write_kth_images,
    write_npz,
    write_seq,
    write_video,
    write_year,
)
from PIL import Image

from benchmarks.data import Arrays
from benchmarks.data.cache import CACHE_VARIABLE
from benchmarks.data.kitti_caltech import (
    IMAGES,
    SETS,
    TRAINING,
    VALIDATION,
    KittiCaltech,
    KittiRawCaltech,
)
from benchmarks.data.kth import ACTIONS, KTH, LIST, KTHAction
from benchmarks.data.taxibj import YEARS, TaxiBJ, TaxiBJReleased

FRAMES = 2_000  # at least
VIDEOS = [f"person{n:02}_{action}_d1" for action in ACTIONS for n in (1, 16, 17)]  # of KTH
VIDEO_FRAMES = 120
DRIVES = {drive: IMAGES[drive] for drive in TRAINING[:9]}  # 2,004 frames
VALIDATION_DRIVES = {drive: IMAGES[drive] for drive in VALIDATION}

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is read from /proc, which is Linux's"
)


# Files in the official formats


def picture(height, width, number):
    """[H, W, 3] uint8: waves that move, with the noise of a camera, which is slow to decode."""
    y, x = np.ogrid[:height, :width]
    waves = 110 + 90 * np.sin((x + 2 * number) / 17) * np.cos(y / 23)
    noise = np.random.default_rng(number).integers(0, 12, (height, width, 3))
    return (waves[..., None] + noise).astype(np.uint8)


def by_turns(pictures, numbers):
    """Numbered pictures, a few again and again."""
    return {number: pictures[i % len(pictures)] for i, number in enumerate(numbers)}


def taxibj(root):
    """Twelve days in each of the four years: 2,304 frames."""
    for year in YEARS:
        write_year(root / "taxibj", year, dates(year, 12))
    return root


def taxibj_released(root):
    """300 windows of 8 frames."""
    write_npz(root / "taxibj-npz" / "dataset.npz", released(270), released(30, seed=1))
    return root


def kth(root):
    """18 videos of 120 frames: 2,160 frames."""
    luma = np.stack([picture(120, 160, n)[..., 0] for n in range(VIDEO_FRAMES)])
    for name in VIDEOS:
        path = root / "kth" / name.split("_")[1] / f"{name}_uncomp.avi"
        write_video(path, luma, codec="mpeg4", pixels="yuv420p")
    entries = "".join(f"{name}\t\tframes\t1-60, 61-{VIDEO_FRAMES}\n" for name in VIDEOS)
    (root / "kth" / LIST).write_bytes(kth_list(entries).encode())
    return root


def kth_action(root):
    """The same number of small images."""
    pictures = [Image.fromarray(picture(120, 160, n)) for n in range(VIDEO_FRAMES)]
    for name in VIDEOS:
        write_kth_images(root / "kth_action", name, dict(enumerate(pictures, 1)), "jpg")
    return root


def caltech(root, frames):
    """A video of so many frames in each set, of which every third is kept."""
    jpegs = [encode_jpeg(Image.fromarray(picture(480, 640, n)), 85) for n in range(6)]
    first, *others = (root / "caltech" / name / "V000.seq" for name in SETS)
    write_seq(first, [jpegs[i % len(jpegs)] for i in range(frames)])
    for path in others:
        path.parent.mkdir()
        path.hardlink_to(first)


def kitti_caltech(root):
    """2,004 + 154 frames of KITTI and 2,000 of Caltech's."""
    write_kitti(root / "kitti_hkl", "train", DRIVES)
    write_kitti(root / "kitti_hkl", "val", VALIDATION_DRIVES)
    caltech(root, 1_200)
    return root


def kitti_raw_caltech(root):
    """2,004 + 154 images of KITTI and 100 frames of Caltech's."""
    pictures = [Image.fromarray(picture(375, 1242, n)) for n in range(6)]
    for drive, images in (DRIVES | VALIDATION_DRIVES).items():
        write_drive(root / "kitti_raw", drive, by_turns(pictures, range(images)))
    caltech(root, 60)
    return root


def own_images(root):
    """Four recordings of 500 images, gray, 128x128."""
    pictures = [Image.fromarray(picture(128, 128, n)[..., 0]) for n in range(100)]
    for name in "abcd":
        write_images(root / "mine" / name, by_turns(pictures, range(500)), "frame{}.png")
    return root / "mine"


def own_recording(root):
    """2,000 frames [1, 128, 128], compressed; they are not prepared but read at each opening."""
    frames = np.stack([picture(128, 128, n)[..., 0] for n in range(100)])
    write_hdf5(root / "mine.h5", frames=np.tile(frames, (20, 1, 1))[:, None])
    return root / "mine.h5"


open_own = partial(Arrays, past=10, future=10)
CASES = {  # what writes the files and returns their place, what opens them
    "TaxiBJ": (taxibj, TaxiBJ),
    "TaxiBJReleased": (taxibj_released, TaxiBJReleased),
    "KTH": (kth, KTH),
    "KTHAction": (kth_action, KTHAction),
    "KittiCaltech": (kitti_caltech, KittiCaltech),
    "KittiRawCaltech": (kitti_raw_caltech, KittiRawCaltech),
    "folder of images": (own_images, open_own),
    "HDF5 recording": (own_recording, open_own),
}


# Measured in a process


class Memory(NamedTuple):
    """Resident memory of this process, MB, and the most that it ever had."""

    anonymous: float
    files: float
    peak: float

    @property
    def resident(self):
        """Of both kinds."""
        return self.anonymous + self.files


def memory() -> Memory:
    """Of this process, now."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    status = dict(line.split(":", 1) for line in lines)
    return Memory(
        *(int(status[key].split()[0]) * 1024 / 1e6 for key in ("RssAnon", "RssFile", "VmHWM"))
    )


class Opening(NamedTuple):
    """What it took to open a data set of so many frames."""

    frames: int
    seconds: float
    before: Memory
    after: Memory


def opening(reader, path) -> Opening:
    """Open a data set, preparing it if that was not done."""
    before = memory()
    start = time.perf_counter()
    data = reader(path)
    seconds = time.perf_counter() - start
    after = memory()
    sides = (data._train, data._validation, data._test)
    frames = sum({id(side.array): len(side.array) for side in sides}.values())
    return Opening(frames, seconds, before, after)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder for files, and one for prepared frames; neither is kept."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.benchmark(group="preparing 2,000 frames or more")
@pytest.mark.parametrize("name", CASES)
def test_prepared_frames_are_not_in_memory(benchmark, name, root):
    """Time and memory of the first opening, and of a second one in another process."""
    write, reader = CASES[name]
    spawn = get_context("spawn")
    with (
        ProcessPoolExecutor(1, mp_context=spawn) as one,
        ProcessPoolExecutor(1, mp_context=spawn) as other,
    ):
        started = [process.submit(memory) for process in (one, other)]
        path = write(root)
        for process in started:
            process.result()
        first = benchmark.pedantic(lambda: one.submit(opening, reader, path).result(), rounds=1)
        second = other.submit(opening, reader, path).result()
    assert first.frames == second.frames >= FRAMES
    rate, peak = first.frames / first.seconds, first.after.peak
    anonymous = second.after.anonymous - second.before.anonymous
    files = second.after.files - second.before.files
    benchmark.extra_info.update(
        frames=first.frames,
        frames_per_second=rate,
        second_opening_seconds=second.seconds,
        resident_anonymous_mb=anonymous,
        resident_files_mb=files,
        peak_mb=peak,
        interpreter_mb=first.before.resident,
    )
    print(
        f"\n{name}: {first.frames:,} frames, {rate:,.0f} frames/s, opens again in "
        f"{second.seconds:.3f} s, {anonymous + files:.0f} MB resident after opening (anonymous "
        f"{anonymous:.0f}, files {files:.0f}), peak {peak:.0f} MB while preparing (the "
        f"interpreter's own: {first.before.resident:.0f})"
    )
    assert anonymous + files < 500
