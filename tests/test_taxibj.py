"""TaxiBJ from files in the official formats: days, gaps, windows, splits, scale, bad input."""

import json
import re
import struct
import zipfile

import h5py
import numpy as np
import pytest
import torch
from official_files import dates, released, write_npz, write_year

from benchmarks.data import open_dataset, taxibj
from benchmarks.data.cache import cache_folder
from benchmarks.data.recordings import Recording
from benchmarks.data.taxibj import TaxiBJ, TaxiBJReleased, h5_name, split_windows

SMALL = {"test_days": 1, "validation_days": 1}


@pytest.fixture
def root(tmp_path):
    """Four files of a few days; returns the folder. The largest flow is 1292, in BJ14."""
    folder = tmp_path / "taxibj"
    write_year(folder, 13, dates(13, 2))
    stamps = dates(14, 3)
    flow = np.random.default_rng(14).integers(0, 1000, (len(stamps), 2, 32, 32)).astype(float)
    flow[5, 0, 3, 4] = 1292
    write_year(folder, 14, stamps, flow)
    write_year(folder, 15, dates(15, 4, drop=[(1, None), (3, 17)]))
    write_year(folder, 16, dates(16, 4))
    return tmp_path


def test_windows_never_cross_a_gap_a_file_or_an_incomplete_day(root, capsys):
    dataset = TaxiBJ(root, **SMALL)
    # Days kept: 2, 3, 1 + 1 (one missing, one without a slot), 4 over the new year.
    assert [r.length for r in dataset._prepared.recordings] == [96, 144, 48, 48, 192]
    assert "BJ15: 47 frames of incomplete days left out" in capsys.readouterr().err
    expected = 96 - 7 + 144 - 7 + 2 * (48 - 7) + 192 - 7
    found = dataset.train_sequences + dataset.test_sequences
    purged = 3  # training windows with target frames among the validation day's
    assert found + dataset.provenance["validation_sequences"] + purged == expected
    assert dataset.provenance["validation_sequences"] == 48
    assert dataset.test_sequences == 48 - 3
    assert dataset.overlap(None) == dataset.clip.frames == 8


def test_values_are_flow_over_the_largest_of_the_training_days(root):
    dataset = TaxiBJ(root, **SMALL)
    with h5py.File(root / "taxibj" / h5_name(16)) as file:
        flow = file["data"][()]
    last = list(dataset.test(None, 16, "cpu"))[-1][-1]
    assert last.shape == (8, 2, 32, 32)
    assert np.array_equal(last.numpy(), (flow[-8:] / 1292).astype(np.float32))
    assert dataset.clip.data_range == 1
    clips = dataset.batch(0, 0, 64, "cpu")
    assert clips.dtype == torch.float32 and clips.min() >= 0 and clips.max() <= 1


def test_the_sides_are_apart(root):
    dataset = TaxiBJ(root, **SMALL)
    frames = dataset._prepared.frames
    train, validation, test = dataset._split[:3]
    assert train.max() + 8 <= validation.min() + 4, "no training window ends in validation"
    assert (test + 4 >= len(frames) - 48).all() and (validation + 4 < len(frames) - 48).all()
    seen = {tuple(clip[4, :, 0, 0].tolist()) for clip in dataset.batch(0, 0, len(train), "cpu")}
    held = {tuple(c[4, :, 0, 0].tolist()) for b in dataset.test(None, 9, "cpu") for c in b}
    assert len(seen & held) <= 1  # first targets differ, but for chance


def test_the_real_runs_give_the_counts_of_table_1():
    """57 gap-free runs in 445 days, two of them in the last 28: 19,627 and 1,334 windows."""
    days = [8] * 50 + [3] * 4 + [4, 15, 14]  # any lengths, but for the last two
    assert sum(days) == 445 and len(days) == 57
    starts = 48 * (np.cumsum(days) - days)
    recordings = [Recording("", 0, start, 48 * d) for start, d in zip(starts, days, strict=True)]
    split = split_windows(recordings, 21_360, 4, 4, 28, 7)
    assert split.published_train == 19_627 and len(split.test) == 1_334
    assert len(split.train) + len(split.validation) <= 19_627


def test_provenance_does_not_tell_where_the_files_lie(root):
    assert str(root) not in json.dumps(TaxiBJ(root, **SMALL).provenance)


@pytest.mark.parametrize("folder", ["", "trafficbj"])
def test_dates_may_be_text_and_files_lie_in_the_folder_itself(tmp_path, folder):
    other = tmp_path / "flat" / folder
    stamps = [d.decode() for d in dates(16, 4)]
    for year in (13, 14, 15):
        write_year(other, year, dates(year, 2))
    write_year(other, 16, stamps, dtype=h5py.string_dtype())
    assert TaxiBJ(tmp_path / "flat", **SMALL).test_sequences == 48 - 3


def test_other_horizons(root):
    dataset = TaxiBJ(root, past=3, future=9, **SMALL)
    assert dataset.batch(0, 0, 2, "cpu").shape == (2, 12, 2, 32, 32)
    assert dataset.test_sequences == 48 - 8


def test_downsampling_averages_squares(root):
    whole = next(TaxiBJ(root, **SMALL).test(2, 2, "cpu"))
    small = next(TaxiBJ(root, downsample=4, **SMALL).test(2, 2, "cpu"))
    assert small.shape == (2, 8, 2, 8, 8)
    assert torch.allclose(small[0, 0, 1, 2, 3], whole[0, 0, 1, 8:12, 12:16].mean())
    with pytest.raises(ValueError, match="downsample is 5"):
        TaxiBJ(root, downsample=5, **SMALL)


def test_checks_print_what_was_found(root):
    checks = {check.what: check for check in TaxiBJ(root, **SMALL).checks()}
    assert checks["frames of complete days"].found == 528
    assert checks["frames of complete days"].expected == 21_360
    assert not checks["gap-free runs"].holds
    assert checks["largest flow"].found == "1292" and checks["largest flow"].holds
    again = {check.what: check for check in TaxiBJ(root, **SMALL).checks()}
    assert again == checks, "from what was prepared"


# Bad input


def test_missing_files_are_named_with_the_command_that_gets_them(root, tmp_path):
    (root / "taxibj" / h5_name(15)).unlink()
    for folder in (root, None):
        with pytest.raises(FileNotFoundError) as error:
            open_dataset("taxibj", folder)
        message = str(error.value)
        assert h5_name(15) in message and "--data synthetic" in message
        assert "python -m benchmarks.data download taxibj" in message
    assert not cache_folder("taxibj", root).exists()


def test_the_error_lists_only_what_is_missing(root):
    (root / "taxibj" / h5_name(15)).unlink()
    with pytest.raises(FileNotFoundError) as error:
        TaxiBJ(root)
    assert h5_name(13) not in str(error.value)


def repeated(stamps):
    return [*stamps[:9], stamps[8], *stamps[10:]]


def swapped(stamps):
    return [*stamps[:9], stamps[10], stamps[9], *stamps[11:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, d: {"stamps": repeated(d)}, r"frame 9 has the date 2015123009 .* repeats"),
        (lambda f, d: {"stamps": swapped(d)}, r"frame 10 has the date 2015123010 .* not later"),
        (lambda f, d: {"stamps": [b"20151230zz", *d[1:]]}, "the date '20151230zz'"),
        (lambda f, d: {"stamps": [b"2015123049", *d[1:]]}, r"2015123049.*no such slot"),
        (lambda f, d: {"stamps": [b"20151330", *d[1:]]}, r"20151330.*not ten digits"),
        (lambda f, d: {"stamps": d[:-1]}, r"192 frames and dates of the shape \(191,\)"),
        (
            lambda f, d: {"flow": np.where(f == f[7, 1, 2, 3], -1, f)},
            r"from -1\.0 to .*; expected",
        ),
        (lambda f, d: {"flow": np.where(f == f[7, 1, 2, 3], np.nan, f)}, "from nan to nan; exp"),
        (lambda f, d: {"flow": np.where(f == f[7, 1, 2, 3], 1e300, f)}, r"to 1e\+300; expected"),
        (lambda f, d: {"flow": f[:, :1]}, r"float64 \(192, 1, 32, 32\); expected numbers"),
        (lambda f, d: {"flow": f.astype("S4")}, r"data is \|S4"),
        (lambda f, d: {"flow": f[:0], "stamps": d[:0]}, "has 0 frames; expected thousands"),
        (lambda f, d: {"data": "flow"}, r"\['date', 'flow'\]; expected the datasets"),
    ],
)
def test_bad_files_are_refused(root, change, message):
    stamps = dates(16, 4)
    flow = np.random.default_rng(16).integers(0, 1000, (len(stamps), 2, 32, 32)).astype(float)
    changed = {"stamps": stamps, "flow": flow, **change(flow, stamps)}
    write_year(root / "taxibj", 16, **changed)
    with pytest.raises(ValueError, match=message) as error:
        TaxiBJ(root, **SMALL)
    assert h5_name(16) in str(error.value)
    assert not cache_folder("taxibj", root).exists(), "nothing half-prepared is kept"


@pytest.mark.parametrize("content", [b"", b"not HDF5", "half"])
def test_a_corrupt_file_is_refused(root, content):
    path = root / "taxibj" / h5_name(13)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(ValueError, match=r"BJ13.*cannot be read as HDF5.*download"):
        TaxiBJ(root, **SMALL)


@pytest.mark.parametrize("chunks", [None, (1, 2, 32, 32)])
def test_more_frames_than_the_file_can_hold_are_refused(root, chunks):
    with h5py.File(root / "taxibj" / h5_name(13), "w") as file:
        file.create_dataset("data", (10**11, 2, 32, 32), "f8", chunks=chunks)
        file.create_dataset("date", (10**11,), "S10", chunks=chunks and (1,))
    with pytest.raises(ValueError, match=r"BJ13.*: /data declares .* bytes of values.*download"):
        TaxiBJ(root, **SMALL)


def test_more_frames_than_a_year_has_are_refused(root):
    with h5py.File(root / "taxibj" / h5_name(13), "w") as file:
        zeros, packed = np.zeros((17_569, 2, 32, 32), np.uint8), {"chunks": True, "compression": 1}
        file.create_dataset("data", data=zeros, **packed)
        file.create_dataset("date", data=np.zeros(17_569, "S10"), **packed)
    with pytest.raises(ValueError, match=r"BJ13.* has 17,569 frames; expected thousands, and at m"):
        TaxiBJ(root, **SMALL)


@pytest.mark.parametrize("name", ["data", "date"])
@pytest.mark.parametrize("where", ["external storage", "virtual dataset", "external link"])
def test_values_from_other_files_are_refused(root, name, where):
    """They would show any file of this machine as flow."""
    path, other = root / "taxibj" / h5_name(13), root / "other.h5"
    path.rename(other)
    with h5py.File(other) as whole, h5py.File(path, "w") as file:
        whole.copy({"data": "date", "date": "data"}[name], file)
        shape, dtype = whole[name].shape, whole[name].dtype
        if where == "external storage":
            file.create_dataset(name, shape, dtype, external=[(other, 0, h5py.h5f.UNLIMITED)])
        elif where == "virtual dataset":
            layout = h5py.VirtualLayout(shape, dtype)
            layout[:] = h5py.VirtualSource(whole[name])
            file.create_virtual_dataset(name, layout)
        else:
            file[name] = h5py.ExternalLink(other, name)
    with pytest.raises(
        ValueError, match=r"BJ13.*(from other files|into another file).*expected all data in"
    ):
        TaxiBJ(root, **SMALL)


def test_too_few_days_are_refused(root):
    with pytest.raises(ValueError, match=r"hold 11 complete days; expected more than the 28"):
        TaxiBJ(root)
    for name in SMALL:
        with pytest.raises(ValueError, match=f"{name} is 0"):
            TaxiBJ(root, **{**SMALL, name: 0})


# The released .npz


@pytest.mark.parametrize(
    ("folder", "save"), [("taxibj-npz", np.savez), ("trafficbj-npz", np.savez_compressed)]
)
def test_the_released_windows(tmp_path, folder, save):
    train, test = released(300), released(20, seed=1)
    write_npz(tmp_path / folder / "taxibj" / "dataset.npz", train, test, save)
    dataset = TaxiBJReleased(tmp_path)
    assert dataset.name == "taxibj-npz"
    assert (dataset.train_sequences, dataset.test_sequences) == (300 - 30 - 7, 20)
    clips = torch.cat(list(dataset.test(None, 16, "cpu")))
    assert np.allclose(clips.numpy(), (test + 1) / 2, atol=1e-7)
    held = torch.cat(list(dataset.validation(99, 16, "cpu")))
    assert np.allclose(held.numpy(), (train[-30:] + 1) / 2, atol=1e-7)
    assert "not the paper's split" in dataset.caption
    assert [check.found for check in dataset.checks()] == [300, 20]
    assert [check.expected for check in dataset.checks()] == [20_461, 500]


def test_windows_that_run_backwards_are_refused(tmp_path):
    train = released(60)[:, ::-1]
    write_npz(tmp_path / "dataset.npz", train, released(20))
    with pytest.raises(ValueError, match=r"X_train .* run backwards in time"):
        TaxiBJReleased(tmp_path)


def test_windows_without_an_order_are_noted(tmp_path, capsys):
    write_npz(tmp_path / "dataset.npz", released(60)[::2], released(20))
    TaxiBJReleased(tmp_path)
    assert "the windows of X_train do not overlap" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Y_test": None}, r"holds \['X_test', 'X_train', 'Y_train'\]; expected X_train"),
        ({"X_test": np.zeros((20, 4, 1, 32, 32), np.float32)}, r"X_test is float32 \(20, 4, 1"),
        ({"X_test": np.zeros((20, 4, 2, 32, 32), np.int64)}, "X_test is int64"),
        ({"X_test": np.zeros((19, 4, 2, 32, 32), np.float32)}, "X_test has 19 .* and Y_test 20"),
        ({"X_test": np.full((20, 4, 2, 32, 32), 1.5, np.float32)}, "outside -1 to 1"),
        ({"X_test": np.full((20, 4, 2, 32, 32), np.nan, np.float32)}, "outside -1 to 1"),
    ],
)
def test_other_archives_are_refused(tmp_path, changes, message):
    write_npz(tmp_path / "dataset.npz", released(60), released(20), **changes)
    with pytest.raises(ValueError, match=message):
        TaxiBJReleased(tmp_path)


def test_a_cut_archive_is_refused(tmp_path):
    path = tmp_path / "dataset.npz"
    write_npz(path, released(60), released(20))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r"cannot be read as \.npz.*download"):
        TaxiBJReleased(tmp_path)


def npy_header(shape, version=b"\x01\x00"):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text


def damaged_headers():
    yield "shape", npy_header("(1000000000000, 4, 2, 32, 32)"), "says it has 1,000,000,000,000 wind"
    yield "negative", npy_header("(-1, 4, 2, 32, 32)"), "says it has -1 windows"
    yield "no frame", npy_header("(3, 4, 2, 32, 32)"), "says it has 3 windows, in 80 bytes"
    yield (
        "version",
        npy_header("(3,)", b"\x02\x00"),
        r"the \.npy format \(2, 0\); expected \(1, 0\)",
    )
    for number, text in enumerate(("-" * 9000 + "1", "{[]: 1}", "[" * 150, "{}", "{1: 2, 'a': 3}")):
        header = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()
        yield f"text {number}", header, r"dataset\.npz cannot be read as \.npz"
    yield "none", b"", r"dataset\.npz cannot be read as \.npz"


@pytest.mark.parametrize("header", [name for name, _, _ in damaged_headers()])
def test_an_array_with_an_absurd_header_is_refused_at_once(tmp_path, header):
    content, message = {name: rest for name, *rest in damaged_headers()}[header]
    path = tmp_path / "dataset.npz"
    write_npz(path, released(20), released(4), X_train=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("X_train.npy", content)
    with pytest.raises(ValueError, match=message) as error:
        TaxiBJReleased(tmp_path)
    assert "\n" not in str(error.value) and "dataset.npz" in str(error.value)


def test_an_archive_that_unpacks_to_many_times_its_size_is_refused(tmp_path, monkeypatch):
    """More windows than frames in all official files, be they all zeros."""
    monkeypatch.setattr(taxibj, "MOST_WINDOWS", 500)
    bomb = np.zeros((501, 4, 2, 32, 32), np.float32)
    path = tmp_path / "dataset.npz"
    write_npz(path, released(20), released(4), np.savez_compressed, X_train=bomb, Y_train=bomb)
    with pytest.raises(ValueError, match=r"dataset\.npz: X_train says it has 501 windows"):
        TaxiBJReleased(tmp_path)


def test_an_encrypted_or_oddly_packed_archive_is_refused(tmp_path):
    path = tmp_path / "dataset.npz"
    write_npz(path, released(20), released(4))
    whole = path.read_bytes()
    for local, central, value in ((6, 8, 1), (8, 10, 99)):  # encrypted; packed in a secret way
        data = bytearray(whole)
        for mark, place in ((rb"PK\x03\x04", local), (rb"PK\x01\x02", central)):
            for found in re.finditer(mark, whole):
                data[found.start() + place] = value
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"dataset\.npz cannot be read as \.npz .*download it"):
            TaxiBJReleased(tmp_path)


def test_a_missing_archive_can_be_downloaded(tmp_path):
    with pytest.raises(FileNotFoundError, match="download taxibj-npz"):
        TaxiBJReleased(tmp_path)
