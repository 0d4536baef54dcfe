"""Every reader of official files: what is no file, is damaged, changes, or lies elsewhere."""

from __future__ import annotations

import datetime
import errno
import io
import os
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from official_files import (
    SEVIR_COLUMNS,
    STAND_INS,
    dates,
    encode_jpeg,
    kth_list,
    released,
    sevir_event,
    sevir_line,
    stand_in,
    write_drive,
    write_human36m,
    write_kitti,
    write_kth_images,
    write_npz,
    write_seq,
    write_sevir,
    write_video,
    write_weather,
    write_year,
)
from PIL import Image

from benchmarks.data import DATASETS, cache, open_dataset, originals
from benchmarks.data.array_file import ChangedError
from benchmarks.data.cache import cache_root
from benchmarks.data.dataset import Dataset
from benchmarks.data.kitti_caltech import SETS
from benchmarks.data.kth import ACTIONS, LIST
from benchmarks.data.originals import check_readable, open_image, reading
from benchmarks.data.sources import find, visible
from benchmarks.data.taxibj import YEARS, h5_name
from benchmarks.data.weatherbench import (
    WeatherBench,
    WeatherBenchMV,
    WeatherBenchT2M,
)

# Official files, as small as they can be


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).integers(0, 256, shape, np.uint8)


def write_taxibj(root: Path) -> None:
    for year in YEARS:
        write_year(root / "taxibj", year, dates(year, 1))


def write_released(root: Path) -> None:
    write_npz(root / "taxibj-npz" / "dataset.npz", released(20), released(4, seed=1))


def write_kth(root: Path) -> None:
    videos = [f"person{number}_boxing_d1" for number in ("01", "16", "17")]
    for name in videos:
        write_video(root / "kth" / "boxing" / f"{name}_uncomp.avi", noise(9, 120, 160))
    listed = "".join(f"{name} frames 1-9\n" for name in videos)
    (root / "kth" / LIST).write_bytes(kth_list(listed).encode())


def write_kth_action(root: Path) -> None:
    pictures = {number: Image.fromarray(noise(12, 16, 3)) for number in (1, 2)}
    for action in ACTIONS:
        for person in ("01", "16", "17"):
            write_kth_images(root / "kth_action", f"person{person}_{action}_d1", pictures)


def write_caltech(root: Path) -> None:
    jpeg = encode_jpeg(Image.fromarray(noise(480, 640, 3)), quality=20)
    for name in SETS:
        write_seq(root / "caltech" / name / "V000.seq", [jpeg] * 6)


def write_kitti_caltech(root: Path) -> None:
    write_kitti(root / "kitti_hkl", "train", {"2011_09_26_drive_0001": 2})
    write_kitti(root / "kitti_hkl", "val", {"2011_09_26_drive_0005": 2})
    write_caltech(root)


def write_kitti_raw_caltech(root: Path) -> None:
    picture = Image.fromarray(noise(94, 311, 3))
    for drive in ("2011_09_26_drive_0001", "2011_09_26_drive_0005"):
        write_drive(root / "kitti_raw", drive, {0: picture, 1: picture.copy()})
    write_caltech(root)


def write_weatherbench(root: Path, cls: type[WeatherBench], hours: int) -> None:
    for variable in cls.variables:
        shape = (hours, *([len(variable.levels)] if variable.levels else []), 32, 64)
        rng = np.random.default_rng(1)
        for year in (2015, 2016, 2017):
            of = rng.uniform(variable.low, variable.high, shape).astype(np.float32)
            first = datetime.datetime(year, 1, 1)
            write_weather(root / "weatherbench", variable, first, of, levels=variable.levels)


SEVIR_FILE = "vil/2019/SEVIR_VIL_STORMEVENTS_2019_0101_0630.h5"


def write_sevir_events(root: Path, folder: str, side: int, frames: int) -> None:
    times = ("2018-12-31 23:00:00", "2019-02-01 00:00:00", "2019-06-01 00:30:00")
    events = {f"S{number}": sevir_event(number, side, frames) for number in range(3)}
    write_sevir(root / folder, SEVIR_FILE, events)
    lines = [sevir_line(f"S{n}", SEVIR_FILE, n, time) for n, time in enumerate(times)]
    (root / folder / "CATALOG.csv").write_text("\n".join([SEVIR_COLUMNS, *lines, ""]))


def write_subjects(root: Path) -> None:
    videos = [f"images/S{number}_Eating.5413_" for number in (1, 8, 9)]
    train = [f"{video},1,71" for video in videos]
    write_human36m(root / "human36m", {"train.txt": train, "test.txt": [f"{videos[0]},26,96"]})


class Kind(NamedTuple):
    """How a set's files are written, opened as quickly as can be, and one file of each kind."""

    write: Callable[[Path], None]
    options: dict[str, Any]
    files: tuple[str, ...]
    is_prepared: bool = True  # whether frames are decoded once, and not read as they are needed


DRIVE = "kitti_raw/2011_09_26/2011_09_26_drive_000{}_sync/image_03/data/0000000001.png"
KINDS = {
    "taxibj": Kind(
        write_taxibj,
        {"test_days": 1, "validation_days": 1, "past": 1, "future": 1},
        tuple(f"taxibj/{h5_name(year)}" for year in YEARS),
    ),
    "taxibj-npz": Kind(write_released, {}, ("taxibj-npz/dataset.npz",)),
    "kth": Kind(
        write_kth,
        {"past": 1, "future": 1},
        (f"kth/{LIST}", "kth/boxing/person17_boxing_d1_uncomp.avi"),
    ),
    "kth-action": Kind(
        write_kth_action,
        {"past": 1, "future": 1},
        tuple(f"kth_action/{a}/person17_{a}_d1_uncomp/image_0002.png" for a in ACTIONS[::5]),
    ),
    "kitti-caltech": Kind(
        write_kitti_caltech,
        {"past": 1, "future": 1, "cut": 2},
        (
            *(f"kitti_hkl/{x}_{side}.hkl" for x in ("X", "sources") for side in ("train", "val")),
            *("caltech/set06/V000.seq", "caltech/set10/V000.seq"),
        ),
    ),
    "kitti-raw-caltech": Kind(
        write_kitti_raw_caltech,
        {"past": 1, "future": 1, "cut": 2},
        (DRIVE.format(1), DRIVE.format(5), "caltech/set10/V000.seq"),
    ),
    "sevir": Kind(
        lambda root: write_sevir_events(root, "sevir", 384, 49),
        {"downsample": 24},
        ("sevir/CATALOG.csv", f"sevir/data/{SEVIR_FILE}"),
        is_prepared=False,
    ),
    "sevir-lr": Kind(
        lambda root: write_sevir_events(root, "sevir_lr/sevir_lr", 128, 25),
        {"downsample": 8},
        (f"sevir_lr/sevir_lr/data/{SEVIR_FILE}",),
        is_prepared=False,
    ),
    "human36m": Kind(
        write_subjects,
        {"past": 1, "future": 1},
        ("human36m/train.txt", "human36m/test.txt"),
        is_prepared=False,
    ),
} | {
    cls.name: Kind(
        partial(write_weatherbench, cls=cls, hours=4 * cls.step),
        {
            "train_years": (2015, 2015),
            "test_years": (2017, 2017),
            **{"past": 1, "future": 1},
        },
        (f"weatherbench/{cls.variables[0].folder}/{cls.variables[0].file(2015)}",),
    )
    for cls in (WeatherBenchT2M, WeatherBenchMV)
}
FILES = [(name, file) for name, kind in KINDS.items() for file in kind.files]
PREPARED = [(name, file) for name, file in FILES if KINDS[name].is_prepared]
READ_LATER = [pair for pair in FILES if pair not in PREPARED and not pair[1].endswith(".csv")]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder with the files of a set, written when it is first asked for; not to be changed."""
    roots: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in roots:
            roots[name] = tmp_path_factory.mktemp(name)
            KINDS[name].write(roots[name])
        return roots[name]

    return folder


@pytest.fixture
def copied(written: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """The same, to change."""
    return lambda name: Path(shutil.copytree(written(name), tmp_path / "data"))


def open_set(name: str, root: Path) -> Dataset:
    return DATASETS[name](root, **KINDS[name].options)


def sequences(data: Dataset) -> list[torch.Tensor]:
    return [
        data.batch(3, 4, 2, "cpu"),
        *data.validation(2, 2, "cpu"),
        *data.test(3, 2, "cpu"),
    ]


def test_all_official_sets_are_here() -> None:
    others = {"moving-mnist", "moving-fashion-mnist"}  # which have test files of their own
    others |= {f"weatherbench-{name}" for name in ("uv10", "r", "tcc", "mv-released")}  # one reader
    assert KINDS.keys() == DATASETS.keys() - others


# What is no file, or a damaged one


@pytest.mark.parametrize("what", STAND_INS)
@pytest.mark.parametrize(("name", "file"), FILES)
def test_what_is_no_file_is_refused_at_once_with_one_line(
    copied: Callable[[str], Path], name: str, file: str, what: str
) -> None:
    root = copied(name)
    message = stand_in(root / file, what)
    with pytest.raises((ValueError, OSError)) as error:
        open_set(name, root)
    assert f"{root / file} {message}" in str(error.value), error.value
    assert "\n" not in str(error.value) and not list(cache_root().glob("*.frames"))


@pytest.mark.parametrize("content", ["nothing", "a half", "zeros", "text", "flipped"])
@pytest.mark.parametrize(("name", "file"), FILES)
def test_a_damaged_file_is_named_in_one_line(
    copied: Callable[[str], Path], name: str, file: str, content: str
) -> None:
    root = copied(name)
    path = root / file
    data = bytearray(path.read_bytes())
    flipped = np.frombuffer(data, np.uint8) ^ (np.arange(len(data)) % 7 == 3).astype(np.uint8)
    path.write_bytes(
        {
            "nothing": b"",
            "a half": data[: len(data) // 2],
            "zeros": bytes(len(data)),
            "text": b"<html>not found</html>\n" * 99,
            "flipped": flipped.tobytes(),
        }[content]
    )
    try:
        open_set(name, root)
    except (ValueError, OSError) as error:
        assert path.name in str(error) and "\n" not in str(error)
    else:  # of a video, the frames before the damage are used
        assert path.suffix in (".avi", ".seq") and content == "a half"


# What changes


@pytest.mark.parametrize(("name", "file"), PREPARED)
def test_a_file_that_was_written_in_place_is_read_again(
    copied: Callable[[str], Path], name: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copied(name)
    first = open_set(name, root)
    checked: list[Path] = []

    def check(path: Path) -> Path:
        checked.append(path)
        return check_readable(path)

    monkeypatch.setattr(originals, "check_readable", check)
    open_set(name, root)
    assert not checked, "frames were prepared"
    with (root / file).open("r+b") as opened:
        byte = opened.read(1)
        opened.seek(0)
        opened.write(byte)
    assert open_set(name, root).digest == first.digest
    assert root / file in checked


@pytest.mark.parametrize("how", ["cut off", "removed", "replaced"])
@pytest.mark.parametrize(("name", "file"), PREPARED)
def test_a_file_that_changes_while_frames_are_prepared_is_named(
    copied: Callable[[str], Path],
    name: str,
    file: str,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond the end of what was cut off HDF5 gives zeros, and a video just ends."""
    root = copied(name)
    path = root / file
    sources: list[list[Path]] = []

    def change() -> None:
        if how == "cut off":
            os.truncate(path, path.stat().st_size // 2)
        elif how == "removed":
            path.unlink()
        else:
            shutil.copy(path, root / "new")
            (root / "new").replace(path)

    def fingerprint(root: Path, files: list[Path], **settings: str | int) -> str:
        sources.append(files)
        return cache.fingerprint(root, files, **settings)

    def prepare(folder: Path, source: str, reader: cache.Reader, *rest: Any) -> cache.Prepared:
        def read(findings: cache.Findings) -> Iterator[cache.Block]:
            for number, block in enumerate(reader(findings)):
                if number == 0 and path in sources[-1]:
                    change()
                yield block

        return cache.prepare(folder, source, read, *rest)

    monkeypatch.setattr(originals, "fingerprint", fingerprint)
    monkeypatch.setattr(originals, "prepare", prepare)
    with pytest.raises(ChangedError) as error:
        open_set(name, root)
    assert str(error.value).startswith(f"{path} was changed, cut off or removed while frames were")
    made = {folder.name for folder in cache_root().glob("*.frames")}
    assert cache.cache_folder(name, root).name not in made


@pytest.mark.parametrize("how", ["cut off", "removed", "replaced"])
@pytest.mark.parametrize(("name", "file"), READ_LATER)
def test_a_file_that_changes_after_its_set_was_opened_is_named(
    copied: Callable[[str], Path], name: str, file: str, how: str
) -> None:
    root = copied(name)
    path = root / file
    data = open_set(name, root)
    if how == "cut off":
        os.truncate(path, path.stat().st_size // 2)
    elif how == "removed":
        path.unlink()
    else:
        shutil.copy(path, root / "new")
        (root / "new").replace(path)
    with pytest.raises(ChangedError, match=re.escape(f"{path} was changed, replaced or removed")):
        data.check_unchanged()


# Links


def everything_is_a_link(root: Path) -> None:
    """Each folder moves elsewhere, at every level, and a link stands in its place."""
    elsewhere = root.with_name("elsewhere")
    elsewhere.mkdir()
    folders = sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True)
    for number, folder in enumerate(folders):
        folder.rename(elsewhere / str(number))
        folder.symlink_to(elsewhere / str(number), target_is_directory=True)


@pytest.mark.parametrize("name", KINDS)
def test_a_data_folder_and_all_in_it_may_be_links(
    written: Callable[[str], Path], copied: Callable[[str], Path], name: str
) -> None:
    root = copied(name)
    everything_is_a_link(root)
    root.with_name("link").symlink_to(root, target_is_directory=True)
    found = open_set(name, root.with_name("link"))
    expected = open_set(name, written(name))
    assert found.provenance == expected.provenance
    for one, other in zip(sequences(found), sequences(expected), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", KINDS)
def test_links_in_a_circle_end(copied: Callable[[str], Path], name: str) -> None:
    root = copied(name)
    first = open_set(name, root)
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        (folder / "self").symlink_to(".")
        (folder / "zloop").symlink_to("zloop")
        (folder / "zup").symlink_to("..")
    assert open_set(name, root).digest == first.digest


def test_patterns_find_what_is_visible_in_order(tmp_path: Path) -> None:
    for name in ("b/x.seq", "a/deep/er/y.seq", "x.seq", ".hidden/x.seq", "a/.x.seq", "a/deep.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "dangling.seq").symlink_to("nothing")

    def found(pattern: str) -> list[str]:
        return [path.relative_to(tmp_path).as_posix() for path in visible(tmp_path, pattern)]

    assert found("**/*.seq") == ["dangling.seq", "x.seq", "a/deep/er/y.seq", "b/x.seq"]
    assert found("*/**/*.seq") == ["a/deep/er/y.seq", "b/x.seq"]
    assert found("*/x.seq") == ["b/x.seq"] and found("x.seq") == ["x.seq"]
    assert found("a/*") == ["a/deep", "a/deep.txt"] and found("a/*/er") == ["a/deep/er"]
    assert found("dangling.seq") == ["dangling.seq"] and found("nothing/*") == []
    assert list(visible(tmp_path / "nowhere", "**/*")) == []
    assert find(tmp_path, ("c", "b", ""), "x.seq") == tmp_path / "b" / "x.seq"
    assert find(tmp_path, ("",), "dangling.seq") == tmp_path / "dangling.seq"
    assert find(tmp_path, ("a", "b"), "y.seq") is None


def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(tmp_path, monkeypatch):
    for name in ("2011_09_26/a.png", "2011_09_30/b.png", "lost+found/c.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    listed = os.scandir

    def scandir(folder):
        if folder.name in ("2011_09_30", "lost+found"):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match="2011_09_30"):
        list(visible(tmp_path, "*/*.png"))
    for dataset in DATASETS.values():  # that some folder is unreadable makes no set present
        if dataset.source is not None:
            assert dataset.source.missing(tmp_path) and not dataset.source.found(tmp_path)
    late = tmp_path / "zkth" / LIST, tmp_path / "zkth" / "person01_walking_d1_uncomp.avi"
    for path in late:  # nor hides what comes after it
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert len(DATASETS["kth"].source.found(tmp_path)) == 1
    (tmp_path / "2011_09_30").rename(tmp_path / "$RECYCLE.BIN")
    assert [path.name for path in visible(tmp_path, "*/*.png")] == ["a.png"]


# Other processes


def check_pickle(data: Dataset, bytes_at_most: int) -> None:
    pickled = pickle.dumps(data)
    assert len(pickled) <= bytes_at_most
    again = pickle.loads(pickled)
    assert (again.clip, again.digest, again.caption) == (data.clip, data.digest, data.caption)
    for one, other in zip(sequences(again), sequences(data), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", KINDS)
def test_a_set_is_handed_to_another_process_without_its_frames(
    written: Callable[[str], Path], name: str
) -> None:
    check_pickle(open_set(name, written(name)), 20_000)


@pytest.mark.parametrize("name", DATASETS)
def test_a_generated_set_is_handed_to_another_process(name: str) -> None:
    """Moving MNIST takes the digits along, 4,000 and 1,000 of them, and no more."""
    digits = 5000 * 28 * 28 if name == "moving-mnist" else 0
    check_pickle(open_dataset(name, synthetic=True), digits + 20_000)


def test_a_set_whose_frames_are_gone_says_so_in_the_other_process(
    written: Callable[[str], Path],
) -> None:
    data = pickle.dumps(open_set("taxibj", written("taxibj")))
    (frames,) = cache_root().glob("*.frames/frames.npy")
    os.truncate(frames, 1000)
    with pytest.raises(ChangedError, match=r"frames\.npy was changed, replaced or removed"):
        pickle.loads(data)


# Errors of libraries


@pytest.mark.parametrize("fault", originals.FAULTS)
def test_every_error_of_a_library_names_the_file_and_the_remedy(fault: type[Exception]) -> None:
    error = fault("utf-8", b"", 0, 1, "x") if fault is UnicodeDecodeError else fault("bad\nbits")
    with (
        pytest.raises(
            ValueError, match=r"^a/b cannot be read as PNG \(.*bad bits.*\); get it anew$"
        ),
        reading(Path("a/b"), "PNG", "get it anew"),
    ):
        raise error


def test_an_error_that_names_the_file_is_left_alone() -> None:
    with pytest.raises(ValueError, match=r"^a/b: frame 3 is red$"), reading("a/b", "PNG", "x"):
        raise ValueError("a/b: frame 3 is red")
    with pytest.raises(ValueError, match=r"\(MemoryError\)"), reading("a/b", "PNG", "x"):
        raise MemoryError


def test_an_error_of_the_system_stays_one() -> None:
    with (
        pytest.raises(OSError, match=r"a/b cannot be read \(.+\)") as error,
        reading("a/b", "", ""),
    ):
        raise OSError(5, "Input/output error")
    assert error.value.errno == 5


@pytest.mark.parametrize("size", [(5000, 5000), (2**22 + 1, 1), (1, 65000 * 65)])
def test_an_image_of_absurd_size_is_not_decoded(size: tuple[int, int]) -> None:
    file = io.BytesIO()
    Image.new("1", size).save(file, "PNG")
    with pytest.raises(ValueError, match=rf"^it has {size[0]}x{size[1]} pixels; expected at most"):
        open_image(file, "it", ("PNG",), "replace it")
