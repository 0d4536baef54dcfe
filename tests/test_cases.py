"""What users do with their own data: every input is read rightly, or refused in one clear line."""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import textwrap
import zipfile
import zlib
from datetime import datetime, timedelta
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import zarr
from official_files import stand_in
from PIL import Image
from scipy.io import netcdf_file

from benchmarks.data import Arrays, open_dataset
from benchmarks.data.array_file import ChangedError
from benchmarks.data.cache import CACHE_VARIABLE
from benchmarks.data.images import in_order
from benchmarks.run import main

WINDOWS = {"past": 1, "future": 1}


def moving(groups, frames, channels=1, size=(6, 5), seed=0):
    """Sequences of which no two frames are equal: [N, T, C, H, W] uint8 from 0 to 255."""
    drawn = np.random.default_rng(seed).integers(
        0, 256, (groups, frames, channels, *size), np.uint8
    )
    drawn[..., 0, 0], drawn[..., -1, -1] = 0, 255
    return drawn


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return path


def write(path, array, name="x", **attributes):
    """Write one array, in the format that the suffix names."""
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez_compressed(path, **{name: array})
    elif path.suffix == ".zarr":
        group = zarr.open_group(str(path), mode="a")
        chunks = (4, *array.shape[1:])
        stored = group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=chunks)
        stored[:] = array
        stored.attrs.update(attributes)
    else:
        with h5py.File(path, "a") as file:
            file.create_dataset(name, data=array, chunks=True).attrs.update(attributes)
    return path


def picture(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)


def recordings(folder, count, frames=30, seed=0):
    for index, frames_of in enumerate(moving(count, frames, seed=seed)):
        save(folder / f"r{index}.npy", frames_of)
    return folder


def everything(dataset):
    """All frames: of training in the order of the first epoch, of validation, and of test."""
    train = dataset.batch(0, 0, dataset.train_sequences, "cpu")
    others = dataset.validation(999, 999, "cpu"), dataset.test(None, 999, "cpu")
    return torch.cat([train, *(batch for batches in others for batch in batches)])


def refused(path, match, **options):
    with pytest.raises((ValueError, OSError), match=match) as error:
        Arrays(path, **options)
    assert "\n" not in str(error.value)


# The order of axes


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".zarr"])
@pytest.mark.parametrize(
    "layout", ["NTHWC", "TNCHW", "NCTHW", "CNTHW", "HWTNC", "WHCTN", "NTHW", "TNHW", "HWNT"]
)
def test_sequences_in_any_order_of_axes_give_the_same_frames(tmp_path, layout, suffix):
    array = moving(12, 4, 3 if "C" in layout else 1)
    expected = Arrays(save(tmp_path / "a.npy", array))
    axes = ["NTCHW".index(letter) for letter in layout]
    turned = (
        array.transpose(axes)
        if "C" in layout
        else array[:, :, 0].transpose(["NTHW".index(letter) for letter in layout])
    )
    path = write(tmp_path / f"b{suffix}", np.ascontiguousarray(turned))
    found = Arrays(path, layout=layout)
    assert torch.equal(everything(found), everything(expected))
    hashes = [[x for k, x in d.provenance.items() if "sha256" in k] for d in (found, expected)]
    assert hashes[0] == hashes[1]
    short = Arrays(path, layout=layout, past=1, future=1)
    assert torch.equal(everything(short), everything(expected)[:, :2])


@pytest.mark.parametrize("layout", ["THWC", "CTHW", "HWCT", "THW"])
def test_a_recording_in_any_order_of_axes_gives_the_same_frames(tmp_path, layout):
    array = moving(1, 60, 3 if "C" in layout else 1)[0]
    expected = Arrays(save(tmp_path / "a.npy", array), **WINDOWS)
    axes = ["TCHW".index(letter) for letter in layout]
    turned = array.transpose(axes) if "C" in layout else array[:, 0]
    found = Arrays(save(tmp_path / "b.npy", turned), layout=layout, **WINDOWS)
    assert torch.equal(everything(found), everything(expected))


@pytest.mark.parametrize(
    ("shape", "layout", "words"),
    [
        ((60, 20, 32, 32), "NTHW", "60 sequences of 20 frames, 1 channel of 32x32"),
        ((20, 60, 32, 32), "TNHW", "60 sequences of 20 frames, 1 channel of 32x32"),
        ((20, 60, 1, 8, 8), "TNCHW", "60 sequences of 20 frames, 1 channel of 8x8"),
        ((60, 20, 8, 8, 1), "NTHWC", "60 sequences of 20 frames, 1 channel of 8x8"),
        ((60, 20, 8, 8, 3), "NTHWC", "60 sequences of 20 frames, 3 channels of 8x8"),
        ((20, 60, 8, 8, 3), "TNHWC", "60 sequences of 20 frames, 3 channels of 8x8"),
        ((60, 1, 20, 8, 8), "NCTHW", "60 sequences of 20 frames, 1 channel of 8x8"),
        ((80, 8, 9, 3), "THWC", "1 recording of 80 frames, 3 channels of 8x9"),
        ((80, 8, 9), "THW", "1 recording of 80 frames, 1 channel of 8x9"),
    ],
)
def test_an_implausible_order_is_refused_with_the_layout_that_would_be_right(
    tmp_path, shape, layout, words
):
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    path = save(tmp_path / "a.npy", array)
    refused(path, rf"has the shape .*--layout {layout} if it is {words}", **WINDOWS)
    assert words in Arrays(path, layout=layout, **WINDOWS).caption


def test_an_order_of_which_none_is_plausible_must_be_told(tmp_path):
    path = save(tmp_path / "a.npy", moving(2, 17, 17))
    refused(path, r"17 channels of 6x5; give --layout NTCHW if that is right$")


def test_an_order_that_is_told_is_believed(tmp_path):
    path = save(tmp_path / "a.npy", moving(6, 10))
    refused(path, "--layout NTCHW if that is right")
    assert "6 sequences of 10 frames" in Arrays(path, layout="ntchw").caption
    path = save(tmp_path / "a.npy", moving(1, 80, 20)[0])
    assert "20 channels" in Arrays(path, layout="TCHW", **WINDOWS).caption


def test_many_channels_may_be_frames(tmp_path):
    path = save(tmp_path / "a.npy", moving(1, 80, 10)[0])
    refused(path, "1 recording of 80 frames, 10 channels .*--layout NTHW")
    assert "80 sequences of 10 frames" in Arrays(path, layout="NTHW").caption


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("BTHWC", "layout 'BTHWC' has 'B'; expected the letters N"),
        ("NTCH", "lacks an axis"),
        ("", "lacks an axis"),
        ("NTTHW", "has an axis twice"),
        ("NTHW", "needs 4 axes"),
    ],
)
def test_an_impossible_layout_is_refused(tmp_path, layout, message):
    refused(save(tmp_path / "a.npy", moving(30, 4)), message, layout=layout)


def test_an_array_that_cannot_be_read_in_stretches_must_fit_into_memory(tmp_path, monkeypatch):
    path = save(tmp_path / "a.npy", np.asfortranarray(moving(30, 4)))
    monkeypatch.setattr("benchmarks.data.layout.MOST_HELD", 1000)
    refused(path, r"has 3,600 bytes, which would all be held in memory; .* in C order")


# Types and ranges


def test_equal_content_of_any_type_and_unit_gives_equal_frames(tmp_path):
    array = moving(20, 4)
    expected = everything(Arrays(save(tmp_path / "a.npy", array)))
    for dtype in ("u1", "u2", "i2", "i4", "i8", "f4", ">f4", ">i2", "f8"):
        for values in (array.astype(dtype), np.asfortranarray(array.astype(dtype))):
            dataset = Arrays(save(tmp_path / "b.npy", values), data_range=255)
            assert torch.equal(everything(dataset), expected), dtype
            assert dataset.value_range == (0, 255)
    for low, high in ((200, 320), (0, 101325), (-1, 1)):
        values = low + array / 255 * (high - low)
        dataset = Arrays(save(tmp_path / "b.npy", values), data_range=(low, high))
        assert torch.allclose(everything(dataset), expected, atol=1e-6)
        assert dataset.value_range == (low, high)
    float16 = everything(Arrays(save(tmp_path / "b.npy", (array / 255).astype("f2")), data_range=1))
    assert torch.allclose(float16, expected, atol=1e-3)


def test_masks_of_0_and_1_are_not_divided_by_255(tmp_path):
    mask = (moving(20, 4) > 127).astype(np.uint8)
    path = save(tmp_path / "a.npy", mask)
    refused(path, "uint8 from 0 to 1, where 255 would be white: .*--data-range")
    found = Arrays(path, data_range=1)
    assert everything(found).unique().tolist() == [0, 1] and found.value_range == (0, 1)
    assert Arrays(path, data_range=255).digest != found.digest
    flags = Arrays(save(tmp_path / "b.npy", mask.astype(bool)))
    assert torch.equal(everything(flags), everything(found)) and "bool" in flags.caption


def test_integers_need_their_range_and_are_told_what_was_found(tmp_path):
    path = save(tmp_path / "a.npy", moving(20, 4).astype(np.uint16) * 257)
    refused(path, r"uint16 from 0 to 65535; give the range .*--data-range HIGH")
    for wrong in (0, float("nan"), float("inf"), (1, 1), (0, 1, 2)):
        refused(path, "data_range is", data_range=wrong)


def test_the_range_enters_the_digest_to_the_last_digit(tmp_path):
    path = save(tmp_path / "a.npy", moving(20, 4).astype(np.float32))
    assert len({Arrays(path, data_range=high).digest for high in (300000.1, 300000.2)}) == 2


def test_the_first_nan_is_named_by_sequence_frame_and_pixel(tmp_path, monkeypatch):
    array = moving(20, 4).astype(np.float32)
    array[17, 3, 0, 4, 2], array[19, 0, 0, 1, 1] = np.nan, np.inf
    path = save(tmp_path / "a.npy", array)
    place = "2 NaN, .* sequence 17, frame 3, channel 0, row 4, column 2;"
    for chunk in (1 << 24, 500, 100):  # all, whole sequences, frames at a time
        monkeypatch.setattr("benchmarks.data.scan.CHUNK_BYTES", chunk)
        refused(path, place, data_range=255)
    for name, frames in (("r0", array[:10]), ("r1", array[17:].repeat(3, axis=0))):
        save(tmp_path / "mine" / f"{name}.npy", frames.reshape(-1, *array.shape[2:]))
    refused(tmp_path / "mine", r"6 NaN, .* r1\.npy, frame 3, channel 0, row 4", **WINDOWS)


# Several arrays in a file, packed values


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".nc", ".zarr"])
def test_coordinates_are_passed_over_and_a_variable_is_chosen(tmp_path, suffix):
    arrays = {"rain": moving(20, 4), "wind": moving(20, 4, seed=1), "time": np.arange(20.0)}
    if suffix == ".npz":
        np.savez(tmp_path / "a.npz", **arrays)
        np.savez(tmp_path / "b.npz", rain=arrays["rain"], time=arrays["time"])
    else:
        for name, array in arrays.items():
            write(tmp_path / f"a{suffix}", array, name)
            if name != "wind":
                write(tmp_path / f"b{suffix}", array, name)
    path = tmp_path / f"a{suffix}"
    refused(path, r"rain \(20, 4, 1, 6, 5\), time \(20,\), wind .*--variable NAME")
    refused(path, r"no array 'snow'; it holds rain \(20", variable="snow")
    expected = everything(Arrays(save(tmp_path / "a.npy", arrays["rain"])))
    assert torch.equal(everything(Arrays(path, variable="rain")), expected)
    assert torch.equal(everything(Arrays(tmp_path / f"b{suffix}")), expected)
    assert Arrays(path, variable="wind").digest != Arrays(path, variable="rain").digest


def test_a_variable_of_a_file_that_has_no_names_is_refused(tmp_path):
    refused(save(tmp_path / "a.npy", moving(20, 4)), "variable='x' has no effect", variable="x")
    recordings(tmp_path / "mine", 3)
    refused(tmp_path / "mine", "variable='x' has an effect", variable="x", **WINDOWS)


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_packed_values_are_unpacked(tmp_path, suffix):
    array = moving(20, 4)
    packed = (array.astype(np.int16) - 128) * 2
    write(tmp_path / f"a{suffix}", packed, scale_factor=0.5, add_offset=401.0, _FillValue=-32767)
    dataset = Arrays(tmp_path / f"a{suffix}", data_range=(273, 528))
    assert torch.equal(everything(dataset), everything(Arrays(save(tmp_path / "a.npy", array))))
    packed[17, 3, 0, 4, 2] = -32767
    write(tmp_path / f"b{suffix}", packed, scale_factor=0.5, add_offset=401.0, _FillValue=-32767)
    refused(tmp_path / f"b{suffix}", "1 NaN, .* missing .* sequence 17, frame 3, channel 0, row 4")
    write(tmp_path / f"c{suffix}", array, scale_factor=1.0)  # as it is
    assert "uint8" in Arrays(tmp_path / f"c{suffix}").caption
    write(tmp_path / f"d{suffix}", array, scale_factor="two")
    refused(tmp_path / f"d{suffix}", "scale_factor 'two'; expected a number")


def test_unsigned_bytes_of_netcdf_are_unsigned(tmp_path):
    array = moving(20, 4)
    write(tmp_path / "a.nc", array.view(np.int8), _Unsigned="true")
    found = everything(Arrays(tmp_path / "a.nc", data_range=255))
    assert torch.equal(found, everything(Arrays(save(tmp_path / "a.npy", array))))


def test_missing_values_that_xarray_writes_to_zarr_are_understood(tmp_path):
    array = moving(20, 4).astype(np.float32)
    fill = base64.standard_b64encode(struct.pack("<d", 7.0)).decode()
    array[array == 7], array[2, 1, 0, 3, 4] = 8, 7
    write(tmp_path / "a.zarr", array, _FillValue=fill)
    refused(tmp_path / "a.zarr", "1 NaN, .* sequence 2, frame 1, channel 0, row 3, column 4")
    array[2, 1, 0, 3, 4] = 8
    group = zarr.open_group(str(tmp_path / "b.zarr"), mode="w", zarr_format=2)
    stored = group.create_array("x", shape=array.shape, dtype="f4", fill_value=8.0)
    stored[:] = array
    stored.attrs["_ARRAY_DIMENSIONS"] = ["n", "t", "c", "y", "x"]
    refused(tmp_path / "b.zarr", "NaN, infinite or missing values")


def write_fields(path, fields, axes, packed, version=3):
    """A NetCDF or Zarr file of fields on named axes, packed into int16, and their coordinates."""
    sizes = dict(zip(axes, packed.shape, strict=True))
    packing = {"scale_factor": 0.5, "add_offset": 273.0, "_FillValue": np.int16(-1)}
    if path.suffix == ".zarr":
        group = zarr.open_group(str(path), mode="w", zarr_format=version)
        for name, array, on in (
            *((name, packed, axes) for name in fields),
            *((name, np.arange(float(size)), [name]) for name, size in sizes.items()),
        ):
            named = {"dimension_names": on} if version == 3 else {}
            stored = group.create_array(name, shape=array.shape, dtype=array.dtype, **named)
            stored[:] = array
            if version == 2:
                stored.attrs["_ARRAY_DIMENSIONS"] = on
            if name in fields:
                stored.attrs.update({name: float(value) for name, value in packing.items()})
    elif version == 3:
        with netcdf_file(path, "w", version=2) as file:
            for name, size in sizes.items():
                file.createDimension(name, None if name == axes[0] else size)
                file.createVariable(name, "d", (name,))[:] = np.arange(size)
            for name in fields:
                variable = file.createVariable(name, "h", axes)
                variable[:] = packed
                for key, value in packing.items():
                    setattr(variable, key, value)
    else:
        with h5py.File(path, "w") as file:
            for name, size in sizes.items():
                file.create_dataset(name, data=np.arange(float(size))).make_scale(name)
            for name in fields:
                variable = file.create_dataset(name, data=packed)
                variable.attrs.update(packing)
                for index, axis in enumerate(axes):
                    variable.dims[index].attach_scale(file[axis])
    return path


@pytest.mark.parametrize(
    ("name", "version"), [("a.nc", 3), ("a.nc", 4), ("a.zarr", 2), ("a.zarr", 3)]
)
def test_fields_are_recordings_by_the_names_of_their_axes(tmp_path, name, version):
    packed = np.random.default_rng(0).integers(0, 100, (40, 6, 8), np.int16)
    fields = packed * 0.5 + 273
    range_of = {"data_range": (273, 323)}
    for axes, order in (
        (("time", "lat", "lon"), (0, 1, 2)),
        (("latitude", "longitude", "valid_time"), (1, 2, 0)),
    ):
        path = tmp_path / str(order[0]) / name
        path.parent.mkdir()
        write_fields(path, ["t2m", "sst"], axes, packed.transpose(order), version)
        refused(path, r"lat.* \(6,\).*--variable NAME", **WINDOWS)
        dataset = Arrays(path, variable="t2m", **range_of, **WINDOWS, stride=1)
        assert "1 recording of 40 frames, 1 channel of 6x8, float64" in dataset.caption
        last = next(dataset.test(None, 99, "cpu"))[-1, -1, 0].double() * 50 + 273
        np.testing.assert_allclose(last.numpy(), fields[-1], atol=1e-4)
    packed[7, 2, 3] = -1
    path = write_fields(tmp_path / name, ["t2m"], ("time", "lat", "lon"), packed, version)
    refused(path, "1 NaN, .* missing .*a.*, frame 7, channel 0, row 2, column 3;", **WINDOWS)


def test_names_of_axes_tell_levels_and_members_apart(tmp_path):
    packed = np.random.default_rng(0).integers(0, 100, (30, 20, 6, 8), np.int16)
    for axes, clip in (
        (("time", "level", "lat", "lon"), (20, 6, 8)),
        (("member", "time", "y", "x"), (1, 6, 8)),
    ):
        path = write_fields(tmp_path / "a.nc", ["u"], axes, packed)
        found = Arrays(path, data_range=(273, 323), **WINDOWS).clip
        assert (found.channels, found.height, found.width) == clip
    path = write_fields(tmp_path / "a.nc", ["u"], ("time", "spam", "lat", "lon"), packed)
    refused(path, r"has the shape \(30, 20, 6, 8\), which as .*--layout", **WINDOWS)


def test_a_damaged_classic_netcdf_file_is_one_line(tmp_path):
    packed = np.zeros((40, 6, 8), np.int16)
    content = write_fields(tmp_path / "a.nc", ["u"], ("time", "lat", "lon"), packed).read_bytes()
    for damaged in (content[:200], content[:-900], b"CDF\x01" + bytes(200), content[:4]):
        (tmp_path / "a.nc").write_bytes(damaged)
        refused(tmp_path / "a.nc", "a.nc", **WINDOWS)
    (tmp_path / "a.nc").write_bytes(b"CDF\x05" + content[4:])
    refused(tmp_path / "a.nc", "is NetCDF of kind CDF-5; convert it: nccopy -k nc4 OLD NEW")


# Splits


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("Train", "Valid", "TEST"),
        ("training", "validation", "testing"),
        ("train/x", "dev/x", "test/x"),
        ("X_train", "X_val", "X_test"),
        ("train-frames", "valid-frames", "test-frames"),
    ],
)
def test_splits_in_a_file_are_used_as_they_are(tmp_path, names):
    parts = moving(20, 4), moving(6, 4, seed=1), moving(7, 4, seed=2)
    for name, part in zip(names, parts, strict=True):
        write(tmp_path / "a.h5", part, name)
    dataset = Arrays(tmp_path / "a.h5")
    assert (dataset.train_sequences, dataset.test_sequences) == (20, 7)
    found = next(dataset.validation(9, 9, "cpu")), next(dataset.test(None, 9, "cpu"))
    for frames, part in zip(found, parts[1:], strict=True):
        assert np.array_equal((frames.numpy() * 255).round(), part)
    assert "33 sequences of 4 frames" in dataset.caption


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("X_train", "Y_train", "X_test", "Y_test"), r"holds X_test .*, Y_train .*--variable NAME"),
        (("train", "val"), "has train and validation, but no test"),
        (("train", "test", "mean"), r"holds mean .*--variable NAME"),
        (("train", "Train", "test"), r"--variable NAME"),
        (("train/x", "test/y"), r"--variable NAME"),
        (("train/test", "b"), "is in test and in train; expected one split"),
        (("X_train", "X_val"), "has train and validation, but no test"),
        (("train_x", "test_y"), r"--variable NAME"),
    ],
)
def test_splits_in_a_file_that_are_not_clear_are_refused_by_name(tmp_path, names, message):
    for index, name in enumerate(names):
        write(tmp_path / "a.h5", moving(20, 4, seed=index), name)
    refused(tmp_path / "a.h5", message)


@pytest.mark.parametrize("form", ["{}/{}", "{1}_{0}", "{}set-{}"])
def test_a_variable_of_each_split_is_chosen(tmp_path, form):
    pairs = [(split, name) for split in ("train", "test") for name in ("x", "y")]
    for index, name in enumerate(form.format(*pair) for pair in pairs):
        write(tmp_path / "a.h5", moving(20 + index, 4, seed=index), name)
    dataset = Arrays(tmp_path / "a.h5", variable="y")
    assert (dataset.train_sequences, dataset.test_sequences) == (19, 23)


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("Train", "dev", "Testing"),
        ("a/train", "b/val", "b/test"),
        ("trainset", "val_2", "my_test"),
    ],
)
def test_splits_in_a_folder_are_used_as_they_are(tmp_path, names):
    for index, name in enumerate(names):
        recordings(tmp_path / name, (3, 1, 2)[index], seed=index)
    dataset = Arrays(tmp_path, **WINDOWS)
    assert (dataset.train_sequences, dataset.test_sequences) == (45, 30)
    assert len(next(dataset.validation(99, 99, "cpu"))) == 15
    assert "6 recordings of 30 frames" in dataset.caption


def test_the_last_tenth_of_train_is_for_validation_without_val(tmp_path):
    for name in ("Train", "Test"):
        recordings(tmp_path / name, 2, 50)
    dataset = Arrays(tmp_path, **WINDOWS)
    assert (dataset.train_sequences, dataset.test_sequences) == (44, 50)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train", "test", "."), r"r0\.npy is in no split, but test/r0\.npy is in test"),
        (("train", "test", "holdout"), "holdout/r0.npy is in no split"),
        (("train", "eval"), "eval/r0.npy is in no split"),
        (("train", "val"), "has train and validation, but no test"),
        (("train/test", "test"), "is in test and in train; expected one split"),
        (("trainset", "testset", "."), "r0.npy is in no split, but testset/r0.npy is in test"),
        (("my_train", "my_val"), "has train and validation, but no test"),
    ],
)
def test_a_folder_of_splits_and_something_beside_them_is_refused(tmp_path, names, message):
    for index, name in enumerate(names):
        recordings(tmp_path / name, 2, seed=index)
    refused(tmp_path, message, **WINDOWS)


# Folders


def test_links_to_folders_are_followed_and_circles_passed_over(tmp_path):
    recordings(tmp_path / "store", 4)
    mine = tmp_path / "mine"
    mine.mkdir()
    try:
        (mine / "link").symlink_to(tmp_path / "store", target_is_directory=True)
    except OSError:
        pytest.skip("links need a privilege here")
    for path in (mine / "up", tmp_path / "store" / "back"):
        path.symlink_to(mine, target_is_directory=True)
    assert "4 recordings of 30 frames" in Arrays(mine, **WINDOWS).caption
    (mine / "r9.npy").symlink_to(tmp_path / "nothing")
    refused(mine, "r9.npy", **WINDOWS)


def test_hidden_and_system_files_are_passed_over(tmp_path):
    for index, frame in enumerate(moving(1, 40)[0, :, 0]):
        picture(tmp_path / "r0" / f"{index}.PNG", frame, format="PNG")
    names = ("r0/._1.png", "r0/Thumbs.db", "r0/desktop.ini", "__MACOSX/r0/1.png", "@eaDir/1.png")
    for name in (*names, "$RECYCLE.BIN/1.png", "lost+found/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"no image")
    picture(tmp_path / "r0" / ".ipynb_checkpoints" / "1-checkpoint.png", frame)
    dataset = Arrays(tmp_path, **WINDOWS)
    assert "1 recording of 40 frames" in dataset.caption and dataset.notes == ()


def test_files_that_are_not_read_are_counted_and_named(tmp_path):
    recordings(tmp_path, 3)
    np.savez(tmp_path / "z.npz", moving(1, 30, seed=5)[0])
    np.save(tmp_path / "U.NPY", moving(1, 30, seed=6)[0])
    (tmp_path / "U.NPY.npy").rename(tmp_path / "U.NPY")
    for name in ("v1.wmv", "v2.wmv", "v10.wmv", "labels.csv"):
        (tmp_path / name).write_bytes(b"0")
    dataset = Arrays(tmp_path, **WINDOWS)
    assert "5 recordings of 30 frames" in dataset.caption
    assert dataset.notes == ("not read: 4 files, labels.csv, v1.wmv, v2.wmv, ...",)


def test_an_array_and_images_of_one_name_are_two_recordings(tmp_path):
    save(tmp_path / "a.npy", moving(1, 30)[0])
    for index, frame in enumerate(moving(1, 30, seed=1)[0, :, 0]):
        picture(tmp_path / "a" / f"{index}.png", frame)
    assert "2 recordings of 30 frames" in Arrays(tmp_path, **WINDOWS).caption


def test_what_the_program_wrote_is_never_input(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))  # prepared frames lie beside the recordings
    recordings(tmp_path, 3)
    first = Arrays(tmp_path, **WINDOWS)
    (prepared,) = tmp_path.glob("*.frames")
    for runs in ("runs", "results/runs", "results/runs-1-threads"):  # as --out is, or lies in it
        save(tmp_path / runs / "r-1" / "samples.npy", moving(1, 30)[0])
        (tmp_path / runs / ".locks").mkdir()
    for figures in ("figures", "results/figures"):
        picture(tmp_path / figures / "a.png", moving(1, 1, size=(30, 40))[0, 0, 0])
    again = Arrays(tmp_path, **WINDOWS)
    assert again.digest == first.digest
    passed = "figures, results/figures, results/runs, ..."
    assert again.notes == (f"passed over, as this program made them: {passed}",)
    refused(prepared, "prepared frames of this program", **WINDOWS)
    refused(prepared / "frames.npy", "prepared frames of this program", **WINDOWS)
    refused(tmp_path / "results", "holds no recording.*made: figures, runs, ", **WINDOWS)


def test_data_that_look_like_results_are_read(tmp_path):
    for index, place in enumerate((".", "e", "e/runs/a", "e/figures")):
        save(tmp_path / place / f"{index}.npy", moving(1, 30)[0])
    (tmp_path / "e" / "runs" / "a" / "checkpoint.pt").write_bytes(b"another program's")
    dataset = Arrays(tmp_path, **WINDOWS)
    assert "4 recordings of 30 frames" in dataset.caption
    assert dataset.notes == ("not read: 1 file, e/runs/a/checkpoint.pt",)


def test_folders_of_one_name_do_not_share_frames(tmp_path):
    digests = [
        Arrays(recordings(tmp_path / place / "mine", 3, seed=seed), **WINDOWS).digest
        for seed, place in enumerate("abc")
    ]
    assert len(set(digests)) == 3
    assert Arrays(tmp_path / "a" / "mine", **WINDOWS).digest == digests[0]


def test_a_folder_by_a_relative_path_is_the_same_folder(tmp_path, monkeypatch):
    mine = recordings(tmp_path / "mine", 3)
    monkeypatch.chdir(mine)
    assert Arrays(Path(), **WINDOWS).digest == Arrays(mine, **WINDOWS).digest


@pytest.mark.parametrize("name", ["64²", "my data 50%&#_ü", "x" * 200])
def test_a_name_may_have_any_letters(tmp_path, name):
    for suffix in ("", ".npy"):
        path = tmp_path / f"{name}{suffix}"
        if suffix:
            found = Arrays(save(path, moving(20, 4)))
        else:
            found = Arrays(recordings(path, 3), **WINDOWS)
        assert found.name == path.name


def test_a_layout_and_a_variable_hold_for_all_files_of_a_folder(tmp_path):
    for index, frames in enumerate(moving(3, 30)):
        write(tmp_path / f"{index}.nc", frames[:, 0], "t2m")
        write(tmp_path / f"{index}.nc", frames[:, 0], "rain")
    dataset = Arrays(tmp_path, layout="THW", variable="t2m", **WINDOWS)
    assert "3 recordings of 30 frames, 1 channel of 6x5" in dataset.caption
    refused(tmp_path, "--variable", layout="THW", **WINDOWS)
    refused(tmp_path, "--layout THW", variable="t2m", **WINDOWS)
    images = tmp_path / "images"
    picture(images / "0.png", moving(1, 1)[0, 0, 0])
    refused(images, "no file on which layout='THW' has an effect", layout="THW", **WINDOWS)


def test_integers_that_float32_cannot_keep_are_refused(tmp_path):
    save(tmp_path / "a.npy", np.arange(16_777_200, 16_777_230)[:, None, None, None])
    refused(tmp_path, r"a\.npy holds 16777217, which float32 cannot keep", **WINDOWS)


# Images


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".pgm", ".gif", ".webp"])
def test_images_of_any_lossless_kind_give_the_same_frames(tmp_path, suffix):
    frames = moving(1, 40, size=(16, 16))[0]
    for index, frame in enumerate(frames[:, 0]):
        options = {"lossless": True} if suffix == ".webp" else {}
        picture(tmp_path / "mine" / f"{index}{suffix}", frame, **options)
    found = everything(Arrays(tmp_path / "mine", **WINDOWS))
    expected = everything(Arrays(save(tmp_path / "a.npy", frames), **WINDOWS))
    assert torch.equal(found, expected.expand(found.shape))  # gray, or colours that are gray


def test_palette_opaque_alpha_and_bilevel_images_are_read(tmp_path):
    frames = moving(1, 40)[0, :, 0]
    frames[:, :3] //= 2
    expected = Arrays(save(tmp_path / "a.npy", frames[:, None]), **WINDOWS)
    for mode, channels in (("P", 3), ("RGBA", 3), ("LA", 1)):
        for index, frame in enumerate(frames):
            image = Image.fromarray(frame)
            image = image.convert("RGB").quantize(256) if mode == "P" else image.convert(mode)
            picture(tmp_path / mode / f"{index}.png", image)
        found = everything(Arrays(tmp_path / mode, **WINDOWS))
        assert found.shape[2] == channels
        assert torch.allclose(found[:, :, :1], everything(expected), atol=0.01)
    for index, frame in enumerate(frames):
        picture(tmp_path / "bits" / f"{index}.png", Image.fromarray(frame > 90))
    bits = Arrays(tmp_path / "bits", **WINDOWS)
    assert "bool" in bits.caption and everything(bits).unique().tolist() == [0, 1]


def test_images_of_16_bits_need_their_range(tmp_path):
    frames = moving(1, 40)[0]
    for index, frame in enumerate(frames[:, 0]):
        picture(tmp_path / "mine" / f"{index}.png", frame.astype(np.uint16) * 257)
    refused(tmp_path / "mine", "int.* from 0 to 65535; give the range", **WINDOWS)
    found = everything(Arrays(tmp_path / "mine", data_range=65535, **WINDOWS))
    assert torch.equal(found, everything(Arrays(save(tmp_path / "a.npy", frames), **WINDOWS)))


def frame_of(mode, **options):
    def write_image(path):
        picture(path, Image.new(mode, (8, 6)), **options)

    return write_image


def animation(path):
    many = [Image.new("L", (8, 6), 9 * i) for i in range(3)]
    many[0].save(path, format="GIF", save_all=True, append_images=many[1:])


def written_png(width, height, bits):
    """A black RGB image as Pillow would not write it: the chunks IHDR, IDAT and IEND."""

    def chunk(kind, data):
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    def write_image(path):
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0))
        body = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + body)

    return write_image


@pytest.mark.parametrize(
    ("write_image", "message"),
    [
        (frame_of("RGBA"), "mode RGBA, which has transparent pixels; convert it"),
        (frame_of("CMYK", format="JPEG"), "mode CMYK, which is not gray or RGB; convert it"),
        (animation, "holds 3 images; expected one"),
        (written_png(8, 6, 16), "has 16 bits for each colour"),
        (frame_of("L", format="EPS"), "cannot be read as an image"),
        (lambda path: path.write_bytes(b"no image"), "cannot be read as an image"),
        (written_png(9_000, 9_000, 8), "has 9000x9000 pixels; expected at most"),
        (written_png(60_000, 60_000, 8), "cannot be read as an image .*pixels"),
    ],
)
def test_an_image_that_is_not_one_plain_frame_is_refused(tmp_path, write_image, message):
    (tmp_path / "r0").mkdir()
    write_image(tmp_path / "r0" / "0.png")
    refused(tmp_path, rf"0\.png .*{message}", **WINDOWS)


# The order of frames


@pytest.mark.parametrize(
    "names",
    [
        "1 2 3 10 11",
        "01 02 3 10 11",
        "img-1 img-2 img-10",
        "t-10 t-1 t0 t1 t10",
        "t0 t0.25 t0.5 t0.75 t1 t1.25",
        "0.0 0.25 0.5 0.75 1.0 1.25 10.0",
        "t1e-05 t0.0001 t0.5 t1",
        "a1.8 a1.9 a1.10 a1.11",
        "frame.0009 frame.0010 frame.0011",
        "f9-of-20 f10-of-20 f11-of-20",
        "f1_t0.5 f2_t0.75 f3_t1.0",
        "day1_8 day1_9 day2_10",
        "x",
    ],
)
def test_numbers_in_names_are_read_as_one_growing_number(names):
    stems = names.split()
    found = in_order("r0", [Path(f"{stem}.png") for stem in reversed(stems)])
    assert [file.stem for file in found.files] == stems and not found.remark


@pytest.mark.parametrize(
    "names",
    [
        "00 0a 10 1f ff",
        "a b c",
        "2015.6.1 2015.6.10 2015.10.1",
        "c1_8 c1_9 c2_1 c10_1",
        "2020scene01frame30 2020scene01frame31 2020scene02frame01",
        "20200101_0058 20200101_0060 20200102_0001",
        "2020_01_30 2020_01_31 2020_2_1",
    ],
)
def test_an_order_that_is_not_certain_is_shown(names):
    stems = names.split()
    found = in_order("r0", [Path(f"{stem}.png") for stem in reversed(stems)])
    assert [file.stem for file in found.files] == stems
    assert f"the order is {stems[0]}.png, {stems[1]}.png, {stems[-1]}.png" in found.remark


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("1.png 01.png", r"01\.png and 1\.png|1\.png and 01\.png"),
        ("1.png 1.jpg", r"have the same number; expected one image for each"),
        ("a.png a.jpg", r"have the same number; expected one image for each"),
        ("first.png last.png second.png", "give frames no order"),
        ("7 12 ff 100", "give frames no order"),
    ],
)
def test_frames_without_an_order_are_refused(names, message):
    with pytest.raises(ValueError, match=rf"r0: .*{message}"):
        in_order("r0", [Path(name) for name in names.split()])


def test_windows_do_not_cross_missing_numbers(tmp_path):
    frames = moving(1, 60)[0, :, 0]
    numbers = [*range(20), *range(30, 50), *range(51, 71)]
    for number, frame in zip(numbers, frames, strict=True):
        picture(tmp_path / "r0" / f"{number:03d}.png", frame)
    dataset = Arrays(tmp_path, past=2, future=2, stride=1)
    assert dataset.notes == (
        "missing: 11 frames in 2 gaps, the first after 019.png; no sequence crosses a gap",
    )
    places = {frame.tobytes(): number for number, frame in zip(numbers, frames, strict=True)}
    for clip in (everything(dataset) * 255).round().numpy().astype(np.uint8):
        found = [places[frame[0].tobytes()] for frame in clip]
        assert found == list(range(found[0], found[0] + 4))
    assert "1 recording of 60 frames" in dataset.caption


@pytest.mark.parametrize("step", [5, 0.25, 33_333_333])
def test_a_constant_step_is_no_gap(tmp_path, step):
    for index, frame in enumerate(moving(1, 40)[0, :, 0]):
        picture(tmp_path / "r0" / f"t{step * index + index % 2 * step / 10:g}.png", frame)
    dataset = Arrays(tmp_path, **WINDOWS)
    assert dataset.notes == () and dataset.train_sequences == 16


def counted(stems):
    """The numbers of frames that are given in another order."""
    found = in_order("r0", [Path(f"{stem}.png") for stem in reversed(stems)])
    assert [file.stem for file in found.files] == stems and not found.remark
    return found.numbers


@pytest.mark.parametrize(
    "start", ["2020-01-01T05", "2021-02-28T23", "2020-02-28T23", "2020-12-31T23"]
)
@pytest.mark.parametrize(
    ("form", "step"),
    [
        ("%Y%m%d", timedelta(days=1)),
        ("%Y-%m-%d", timedelta(days=1)),
        ("%Y%m%d", timedelta(days=7)),
        ("%Y%m%d%H", timedelta(hours=1)),
        ("era5_%Y.%m.%d.%H", timedelta(hours=6)),
        ("%Y%m%d%H%M", timedelta(minutes=5)),
        ("%Y%m%d_%H%M", timedelta(minutes=5)),
        ("%Y%m%d.%H%M", timedelta(minutes=5)),
        ("%Y_%m_%d_%H_%M", timedelta(minutes=10)),
        ("H08_%Y%m%d_%H%M_99_FLDK.02401_02401", timedelta(minutes=10)),
        ("1920x1080_%Y%m%d_%H%M_20191231", timedelta(minutes=10)),
        ("%Y%m%d%H%M%S", timedelta(seconds=150)),
        ("%Y-%m-%dT%H-%M-%S", timedelta(minutes=5)),
        ("radar_%Y%m%d-%H%M%S", timedelta(minutes=5)),
    ],
)
def test_times_in_names_cross_hours_days_months_and_years_and_no_missing_file(form, step, start):
    stems = [(datetime.fromisoformat(start) + step * i).strftime(form) for i in range(40)]
    assert counted(stems) == [*range(40)]
    assert counted(stems[:13] + stems[14:]) == [*range(13), *range(14, 40)]
    assert counted(stems[:1] + stems[30:]) == [0, *range(30, 40)]


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        ("201911 201912 202001 202002", [0, 1, 2, 3]),
        ("sst_2019-10 sst_2019-11 sst_2019-12 sst_2020-02 sst_2020-03", [0, 1, 2, 4, 5]),
        ("190011 190012 190101 190102", [0, 1, 2, 3]),
        ("190011 190012 200101 200102", [0, 1, 1202, 1203]),
        ("20191101 20191201 20200101 20200201 20200301 20200501", [0, 1, 2, 3, 4, 6]),
        ("20200227 20200228 20200301 20200302", [0, 1, 3, 4]),
        ("20210227 20210228 20210301 20210302", [0, 1, 2, 3]),
        ("1_200501 1_200512 1_200601 1_200612", [0, 1, 2, 3]),
        ("20200101_200501 20200101_200512 20200101_200601 20200101_200612", [0, 1, 5, 6]),  # 20 h
    ],
)
def test_months_and_leap_days_are_counted_by_the_calendar(names, numbers):
    assert counted(names.split()) == numbers


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        ("000001 000002 000003 000005", [0, 1, 2, 4]),
        ("10000000 10000001 10000002 10000100", [0, 1, 2, 100]),
        ("cam2020_0930 cam2020_0931 cam2020_0932 cam2020_1001", [0, 1, 2, 71]),
        ("20200129 20200130 20200131 20200132 20200201", [0, 1, 2, 3, 72]),  # no day 32
        ("20210227 20210228 20210229 20210230 20210301", [0, 1, 2, 3, 74]),  # no leap year
        ("202011 202012 202013 202101", [0, 1, 2, 90]),
        ("2020010123 2020010124 2020010125 2020010200", [0, 1, 2, 77]),
        ("180011 180012 180101 180102", [0, 1, 90, 91]),  # years before 1900 and after 2100
        ("210011 210012 210101 210102", [0, 1, 90, 91]),
        ("1_20191231 2_20200101 3_20200102 5_20200103", [0, 1, 2, 4]),  # has its own number
        ("20200101_2300 20200102_0000 20200103_0000 20200104_2300", [0, 1, 2, 3]),  # even days
        ("2020001 2020002 2020003 2020005", [0, 1, 2, 4]),
        ("1577836800 1577836860 1577836920 1577837040", [0, 1, 2, 4]),
    ],
)
def test_numbers_that_are_no_times_are_counted_as_they_are(names, numbers):
    assert counted(names.split()) == numbers


def test_windows_cross_midnight_and_no_missing_time(tmp_path):
    first = datetime(2020, 1, 31, 22, 30)
    stems = [f"{first + timedelta(minutes=5 * i):%Y%m%d_%H%M}" for i in range(62)]
    missing = [stems.pop(40), stems.pop(40)]
    assert missing == ["20200201_0150", "20200201_0155"]
    for stem, frame in zip(stems, moving(1, 60)[0, :, 0], strict=True):
        picture(tmp_path / "r0" / f"{stem}.png", frame)
    assert Arrays(tmp_path, past=2, future=2, stride=1).notes == (
        "missing: 2 frames in 1 gap, the first after 20200201_0145.png; no sequence crosses a gap",
    )


def test_pieces_of_one_recording_are_one_recording(tmp_path):
    """Twelve pieces of two recordings: each recording gives its last tenth."""
    for name, seed in (("a", 0), ("b", 1)):
        for index, frame in enumerate(moving(1, 120, seed=seed)[0, :, 0]):
            picture(tmp_path / name / f"{index + 5 * (index // 20)}.png", frame)
    dataset = Arrays(tmp_path, **WINDOWS)
    assert "2 recordings of 120 frames" in dataset.caption
    assert "each recording" in dataset.caption and dataset.test_sequences == 2 * 6


# Copies in the test split


def copies(dataset):
    (warning,) = dataset.notes
    return warning


def test_overlapping_windows_that_are_saved_as_sequences_are_noticed(tmp_path):
    film = moving(1, 40)[0]
    array = np.stack([film[start : start + 10] for start in range(30)])
    # The test sequences begin with the frames 27 to 29, and the last one trained on is frame 32.
    warning = "warning: 15 frames in 3 of 3 test sequences are also trained on"
    assert copies(Arrays(save(tmp_path / "a.npy", array))).startswith(warning)
    assert Arrays(save(tmp_path / "a.npy", array[::10]), layout="NTCHW").notes == ()


def test_sequences_that_are_there_twice_are_noticed(tmp_path, monkeypatch):
    path = save(tmp_path / "a.npy", np.concatenate([moving(20, 4)] * 2))
    assert "16 frames in 4 of 4 test sequences" in copies(Arrays(path))
    monkeypatch.setattr("benchmarks.data.scan.CHUNK_BYTES", 100)  # three frames at a time
    assert "16 frames in 4 of 4 test sequences" in copies(Arrays(path))
    monkeypatch.setattr("benchmarks.data.arrays.MOST_PAIRS", 50)
    assert "at least" in copies(Arrays(path)), "of very many frames, some are compared"


def test_a_test_split_that_is_a_copy_of_the_training_split_is_noticed(tmp_path):
    np.savez(tmp_path / "a.npz", train=moving(20, 4), test=moving(20, 4)[:5])
    assert "20 frames in 5 of 5 test sequences" in copies(Arrays(tmp_path / "a.npz"))
    for split in ("train", "test"):
        recordings(tmp_path / "mine" / split, 20, 40)
    assert "720 frames in 360 of 400 test sequences" in copies(Arrays(tmp_path / "mine", **WINDOWS))


@pytest.mark.parametrize("still", [0, 200])
def test_scenes_in_which_nothing_moves_are_no_copies(tmp_path, still):
    array = moving(20, 6)
    array[:, :3] = still  # all begin alike
    array[::2] = still  # and every second one stays so
    array[1, 4:], array[19, 4:] = array[1, 4], array[19, 4]
    assert Arrays(save(tmp_path / "a.npy", array), data_range=255).notes == ()
    film = np.repeat(moving(1, 4)[0], 10, axis=0)  # one scene to train on, another one for test
    assert Arrays(save(tmp_path / "b.npy", film), **WINDOWS).notes == ()


# Sizes


def test_frames_are_cropped_to_their_middle_and_padded_with_their_edges(tmp_path):
    array = moving(20, 4, size=(9, 7))
    path = save(tmp_path / "a.npy", array)
    expected = torch.from_numpy(array[-2:] / np.float32(255))

    def last(**options):
        return next(Arrays(path, **options).test(None, 9, "cpu"))

    assert torch.equal(last(crop="6x4"), expected[..., 1:7, 1:5])
    padded = last(pad="12x8")
    assert torch.equal(padded[..., 1:10, :7], expected) and padded.shape[-2:] == (12, 8)
    assert torch.equal(padded[..., 10, :7], expected[..., -1, :])
    assert torch.equal(padded[..., 1:10, 7], expected[..., :, -1])
    dataset = Arrays(path, crop="9x4", pad="9x9")
    assert (dataset.clip.height, dataset.clip.width) == (9, 9)
    assert "cropped to the middle 9x4, padded to 9x9" in dataset.caption
    assert (dataset.provenance["crop"], dataset.provenance["pad"]) == ("9x4", "9x9")
    digests = {Arrays(path, **o).digest for o in ({}, {"crop": "6x4"}, {"crop": "4x6"})}
    assert len(digests) == 3
    for option, size in (
        ("crop", "10x7"),
        ("crop", "9x7"),
        ("pad", "8x9"),
        ("pad", "9"),
        ("crop", "0x3"),
    ):
        refused(path, f"{option} is .*{size}.*expected", **{option: size})
    mine = recordings(tmp_path / "mine", 3)
    assert Arrays(mine, crop="4x4", **WINDOWS).clip.height == 4


# Files that are damaged, or mean harm


@pytest.mark.parametrize("kind", ["a folder", "a named pipe", "a socket"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, kind):
    for suffix in (".npy", ".npz", ".h5", ".nc"):
        stand_in(tmp_path / f"a{suffix}", kind)
        refused(tmp_path / f"a{suffix}", "expected a file")
    if kind != "a folder":
        for index, name in enumerate(("a.npy", "a.png")):
            (tmp_path / str(index)).mkdir()
            stand_in(tmp_path / str(index) / name, kind)
            refused(tmp_path / str(index), "expected a file", **WINDOWS)
        write(tmp_path / "a.zarr", moving(20, 4))
        stand_in(tmp_path / "a.zarr" / "x" / "c0", kind)
        refused(tmp_path / "a.zarr", "expected a file")


def header(shape, descr="|u1"):
    file = io.BytesIO()
    declared = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, declared)
    return file.getvalue()


def test_a_size_that_the_file_cannot_hold_is_refused(tmp_path, monkeypatch):
    huge = header((10**6, 10**3, 1, 1000, 1000)) + bytes(100)
    (tmp_path / "a.npy").write_bytes(huge)
    refused(tmp_path / "a.npy", "it has 100 bytes; expected 1,000,000,000,000,000 by its header")
    (tmp_path / "b.npy").write_bytes(header((-20, -4, 1, 6, 5)) + bytes(2400))
    refused(tmp_path / "b.npy", r"its header is damaged: the shape is \(-20")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", huge)
    refused(tmp_path / "a.npz", "it has 100 bytes; expected 1,000,000,000,000,000 by its header")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (10**6, 10**3, 1, 1000, 1000), "u1")
    refused(tmp_path / "a.h5", "declares 1,000,000,000,000,000 bytes")
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    group.create_array("x", shape=(10**6, 10**3, 1, 1000, 1000), chunks=(1, 1, 1, 9, 9), dtype="u1")
    refused(tmp_path / "a.zarr", "declares 1,000,000,000,000,000 bytes of values, and stores")
    monkeypatch.setattr("benchmarks.data.formats.UNPACKED", 10_000)
    write(tmp_path / "bomb.npz", np.zeros((100, 100, 1, 64, 64), np.uint8))
    refused(tmp_path / "bomb.npz", r"declares 40,960,... bytes of values, and stores .* 100 times")


def test_hdf5_that_reads_other_files_is_refused(tmp_path):
    other = write(tmp_path / "other.h5", moving(20, 4))
    layout = h5py.VirtualLayout((20, 4, 1, 6, 5), "u1")
    layout[...] = h5py.VirtualSource(str(other), "x", (20, 4, 1, 6, 5))
    for name in ("external", "virtual", "link"):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            if name == "external":
                file.create_dataset("x", (20, 4, 1, 6, 5), "u1", external=[(str(other), 0, 2400)])
            elif name == "virtual":
                file.create_virtual_dataset("x", layout)
            else:
                file["x"] = h5py.ExternalLink(str(other), "x")
        refused(tmp_path / f"{name}.h5", "expected all data in the file itself")


def test_pickled_objects_are_never_loaded(tmp_path):
    objects = np.empty((3, 3, 3, 3, 3), object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=objects)
    for name in ("a.npy", "a.npz"):
        refused(tmp_path / name, "it holds pickled objects; expected numbers")
    np.savez(tmp_path / "b.npz", x=moving(20, 4), names=np.array([{}], object))
    assert "20 sequences" in Arrays(tmp_path / "b.npz").caption
    (tmp_path / "a.zarr").mkdir()
    meta = {"zarr_format": 2, "shape": [9, 2, 1, 4, 4], "chunks": [9, 2, 1, 4, 4], "dtype": "|u1"}
    meta |= {"compressor": None, "fill_value": 0, "order": "C", "filters": [{"id": "pickle"}]}
    (tmp_path / "a.zarr" / ".zarray").write_text(json.dumps(meta))
    mark = tmp_path / "mark"

    class Harm:
        def __reduce__(self):
            return Path.touch, (mark,)

    (tmp_path / "a.zarr" / "0.0.0.0.0").write_bytes(pickle.dumps(Harm()))
    refused(tmp_path / "a.zarr", r"a\.zarr ")
    assert not mark.exists()


def encrypted(data):
    """A zip whose only member says that it is encrypted."""
    changed = bytearray(data)
    changed[data.index(b"PK\x03\x04") + 6] |= 1
    changed[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(changed)


def unknown_method(data):
    """A zip whose only member is packed in a way that nobody knows."""
    changed = bytearray(data)
    changed[data.index(b"PK\x01\x02") + 10] = 77
    return bytes(changed)


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: bytes(50) + data[50:],
        lambda data: data[:-40] + b"\xff" * 40,
        encrypted,
        unknown_method,
    ],
)
def test_a_damaged_npz_is_refused(tmp_path, harm):
    path = write(tmp_path / "a.npz", moving(20, 4))
    path.write_bytes(harm(path.read_bytes()))
    refused(path, r"a\.npz cannot be read as \.npz \(.*\); write it again")


def test_a_damaged_zarr_is_refused(tmp_path):
    path = write(tmp_path / "a.zarr", moving(20, 4))
    chunk = path / "x" / "c" / "1" / "0" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:30])
    refused(path, r"a\.zarr cannot be read as Zarr \(.*\); write it again")
    (path / "x" / "zarr.json").write_text("{")
    refused(path, r"a\.zarr cannot be read as Zarr \(.*\); write it again")
    (tmp_path / "b.zarr").write_bytes(b"")
    refused(tmp_path / "b.zarr", "is a file; expected a folder")


# Files that change, and other processes


@pytest.mark.parametrize("name", ["a.npy", "fortran.npy", "a.npz", "a.h5", "packed.h5", "a.zarr"])
def test_a_data_set_travels_and_notices_that_its_file_changed(tmp_path, name):
    array = moving(20, 4)
    packing = {"scale_factor": 0.5} if name == "packed.h5" else {}
    array = np.asfortranarray(array) if name == "fortran.npy" else array
    path = write(tmp_path / name, array, **packing)
    dataset = Arrays(path, data_range=255)
    sent = pickle.dumps(dataset)
    assert len(sent) < array.nbytes, "as a place, not as frames"
    assert torch.equal(everything(pickle.loads(sent)), everything(dataset))
    dataset.check_unchanged()
    if path.is_dir():
        (path / "another").write_bytes(b"")
    else:  # by a copy of the same content
        (tmp_path / "copy").write_bytes(path.read_bytes())
        (tmp_path / "copy").replace(path)
    for attempt in (dataset.check_unchanged, lambda: pickle.loads(sent)):
        with pytest.raises(ChangedError, match="was changed, replaced or removed"):
            attempt()


@pytest.mark.parametrize("name", ["a.npy", "a.h5"])
def test_a_file_that_is_cut_off_while_it_is_read_is_an_error(tmp_path, name):
    path = write(tmp_path / name, moving(20, 400))
    dataset = Arrays(path, layout="NTCHW")
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ChangedError, match="was changed, replaced or removed"):
        everything(dataset)


@pytest.mark.slow
def test_another_process_opens_what_it_is_given(tmp_path):
    path = write(tmp_path / "a.h5", moving(20, 4).transpose(1, 0, 2, 3, 4))
    dataset = Arrays(path, layout="TNCHW")
    (tmp_path / "sent").write_bytes(pickle.dumps(dataset))
    code = """
        import pickle, sys
        dataset = pickle.load(open(sys.argv[1], "rb"))
        print(float(next(dataset.test(None, 99, "cpu")).sum()))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "sent")]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert float(found) == float(next(dataset.test(None, 99, "cpu")).sum())


# The command


def plan(capsys, path, *options):
    """Exit status, output, and the lines of standard error."""
    arguments = ["--suite", "compare", "--rows", "Last frame", "--dry-run", "--data", str(path)]
    status = main([*arguments, *options])
    out, err = capsys.readouterr()
    return status, out, err.splitlines()


def test_the_plan_says_what_the_axes_are_and_what_is_odd(tmp_path, capsys):
    for index, frames in enumerate(moving(12, 60, size=(8, 9))):
        save(tmp_path / "mine" / f"r{index}.npy", frames)
    (tmp_path / "mine" / "v.wmv").write_bytes(b"0")
    status, out, err = plan(capsys, tmp_path / "mine", "--past", "5", "--future", "5")
    assert status == 0
    assert "mine: 12 recordings of 60 frames, 1 channel of 8x9, uint8, divided by 255;" in out
    assert "past frames: 5; future frames, to predict: 5" in out
    assert err[-1] == "not read: 1 file, v.wmv"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "--data is empty"),
        ("film.wmv", r"is of no kind that is read; .*: convert it, ffmpeg -i VIDEO VIDEO.mp4"),
        ("notes.txt", "is of no kind that is read; expected a file that ends in"),
        ("empty", "holds no recording; expected array files .* or folders of images"),
        ("nothing.npy", "no such file or folder"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, capsys, data, message):
    for name in ("film.wmv", "notes.txt"):
        (tmp_path / name).write_bytes(b"0")
    (tmp_path / "empty").mkdir()
    status, out, (error,) = plan(capsys, tmp_path / data if data else "")
    assert (status, out) == (2, "")
    assert re.match(f"error: .*{message}", error)


def test_words_of_splits_in_names_of_recordings_are_no_splits(tmp_path):
    for index, name in enumerate(("crash_test", "dev-house", "retrain", "walk")):
        recordings(tmp_path / name, 1, 60, seed=index)
    assert "the last tenth of each recording" in Arrays(tmp_path, **WINDOWS).caption


@pytest.mark.parametrize("shape", [(60, 3, 10, 32, 32), (60, 1, 10, 32, 32)])
def test_channels_before_frames_are_asked_for(tmp_path, shape):
    path = save(tmp_path / "a.npy", np.zeros(shape, np.uint8) + np.uint8(99))
    refused(path, f"--layout NCTHW if it is 60 sequences of 10 frames, {shape[1]} channel")
    assert Arrays(path, layout="NCTHW").clip.frames == 10


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((12, 4, 1, 59, 59), ["--rows", "SimVP"], "--crop 56x56 or --pad 64x64, for data of"),
        ((12, 4, 1, 4, 4), ["--rows", "Last frame"], "frames are 4x4 pixels; SSIM needs"),
        ((12, 4, 1, 16, 16), ["--pad", "99999x99999"], "expected at most 4,194,304"),
        (
            (3, 2, 1, 16, 16),
            [],
            "a batch of 4 needs as many .*: --batch-size makes",
        ),
    ],
)
def test_frames_that_do_not_fit_are_found_in_the_plan(tmp_path, capsys, shape, options, message):
    path = save(tmp_path / "a.npy", np.zeros(shape, np.uint8) + np.uint8(99))
    command = ["--suite", "compare", "--scale", "quick", "--dry-run", "--data", str(path)]
    assert main([*command, *options]) == 2
    out, err = capsys.readouterr()
    assert out == "" or "a.npy" in out
    assert re.search(message, err)


def test_few_sequences_train_in_small_batches(tmp_path, capsys):
    path = save(tmp_path / "a.npy", np.zeros((3, 2, 1, 16, 16), np.uint8) + np.uint8(99))
    assert plan(capsys, path, "--batch-size", "1")[0] == 0


def test_a_negative_number_may_have_an_exponent(tmp_path, capsys):
    path = save(tmp_path / "a.npy", moving(12, 4, size=(8, 9)).astype("f4"))
    status, out, _ = plan(capsys, path, "--data-range", "-1e-3", "1e3")
    assert status == 0 and "float32, from -0.001 to 1000;" in out


def test_a_folder_without_official_files_may_be_the_users_own(tmp_path, capsys):
    recordings(tmp_path, 3)
    command = ["--suite", "smoke", "--dry-run", "--data", str(tmp_path)]
    assert main(command) == 2
    assert f"of your own: --suite compare --data {tmp_path}" in capsys.readouterr().err


def test_an_empty_name_is_not_the_current_folder(tmp_path, monkeypatch):
    recordings(tmp_path, 3)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="data set '' does not exist"):
        open_dataset("", **WINDOWS)


def test_the_options_for_own_data_reach_it(tmp_path, capsys):
    write(tmp_path / "a.h5", np.moveaxis(moving(20, 4, size=(9, 9)), 2, -1), "rain")
    write(tmp_path / "a.h5", moving(20, 4), "wind")
    options = ("--variable", "rain", "--layout", "NTHWC", "--crop", "7x7", "--pad", "8x8")
    status, out, _ = plan(capsys, tmp_path / "a.h5", *options)
    assert status == 0 and "20 sequences of 4 frames, 1 channel of 8x8" in out
    save(tmp_path / "A.NPY", moving(20, 4, size=(8, 8)))
    (tmp_path / "A.NPY.npy").rename(tmp_path / "A.NPY")
    assert plan(capsys, tmp_path / "A.NPY")[0] == 0
