"""Your own data: files and folders, sequences and recordings, their sides, ranges and faults."""

import json

import numpy as np
import pytest
import torch
import zarr
from official_files import write_hdf5, write_images
from PIL import Image

from benchmarks.data import Arrays, open_own
from benchmarks.data.cache import cache_root
from benchmarks.data.recordings import Recording
from benchmarks.data.splits import hold_out
from tau.predictor import Clip


def open_floats(path, **options):
    """Open floats that lie in [0, 1]."""
    return Arrays(path, data_range=1, **options)


def sequences(count, frames=5, shape=(2, 3, 4)):
    """Sequences whose every value is the sequence's number, frames scaled to [0, 1]."""
    values = np.arange(count, dtype=np.float32) / 64
    return np.broadcast_to(values[:, None, None, None, None], (count, frames, *shape)).copy()


def numbers(clips):
    """The sequence number of each clip of `sequences`."""
    return (clips[:, 0, 0, 0, 0] * 64).int().tolist()


def save(path, array):
    np.save(path, array)
    return path


def test_own_arrays_split_in_order(tmp_path):
    dataset = open_own(save(tmp_path / "mine.npy", sequences(20)), data_range=1)
    assert isinstance(dataset, Arrays) and dataset.name == "mine.npy"
    assert dataset.clip == Clip(2, 3, 2, 3, 4, 1.0)
    assert numbers(torch.cat(list(dataset.test(None, 16, "cpu")))) == [18, 19]
    assert numbers(torch.cat(list(dataset.validation(100, 1, "cpu")))) == [16, 17]
    assert numbers(next(dataset.validation(1, 16, "cpu"))) == [16]
    assert (dataset.train_sequences, dataset.test_sequences) == (16, 2)
    assert dataset.overlap(None) == 1
    assert sorted(numbers(dataset.batch(0, 0, 16, "cpu"))) == list(range(16))
    expected = "float32, from 0 to 1; trained on 16 sequences, validated on 2, tested on 2"
    assert expected in dataset.caption
    assert json.loads(json.dumps(dataset.provenance)) == dataset.provenance


def test_three_sequences_are_the_fewest(tmp_path):
    dataset = open_floats(save(tmp_path / "a.npy", sequences(3, frames=2)))
    parts = (dataset.batch(0, 0, 1, "cpu"), *dataset.validation(9, 9, "cpu"))
    assert [numbers(part) for part in (*parts, *dataset.test(None, 9, "cpu"))] == [[0], [1], [2]]
    with pytest.raises(ValueError, match=r"has 2 sequences to set apart; expected at least 3"):
        open_floats(save(tmp_path / "a.npy", sequences(2, frames=2)))


def test_own_test_sequences_are_never_trained_on(tmp_path):
    path = tmp_path / "two.npz"
    np.savez(path, train=sequences(12), test=sequences(30)[-3:])
    dataset = open_floats(path)
    assert sorted(numbers(dataset.batch(0, 0, 11, "cpu"))) == list(range(11))
    assert numbers(next(dataset.validation(9, 9, "cpu"))) == [11]
    assert numbers(next(dataset.test(None, 9, "cpu"))) == [27, 28, 29]


def test_every_epoch_sees_each_sequence_once_in_a_new_order(tmp_path):
    dataset = open_floats(save(tmp_path / "a.npy", sequences(12)))  # 10 to train on
    drawn = [n for step in range(5) for n in numbers(dataset.batch(1, step, 4, "cpu"))]
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))  # step 2 spans both epochs
    assert drawn[:10] != drawn[10:]
    again = open_floats(tmp_path / "a.npy")
    assert numbers(again.batch(1, 3, 4, "cpu")) == drawn[12:16]
    assert numbers(again.batch(2, 0, 10, "cpu")) != drawn[:10]
    assert sorted(numbers(again.batch(1, 0, 20, "cpu"))) == sorted(2 * list(range(10)))


def test_uint8_is_divided_by_255_and_float_kept(tmp_path):
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, (5, 4, 1, 3, 3), np.uint8)
    clips = next(Arrays(save(tmp_path / "bytes.npy", raw)).test(None, 9, "cpu"))
    assert np.array_equal(clips.numpy(), raw[-1:] / np.float32(255))
    for dtype in (np.float16, ">f4", np.float64):
        kept = (rng.random((5, 4, 1, 3, 3)) * 40).astype(dtype)
        dataset = Arrays(save(tmp_path / "floats.npy", np.asfortranarray(kept)), data_range=40.0)
        clips = next(dataset.test(None, 9, "cpu"))
        assert clips.dtype == torch.float32 and dataset.value_range == (0, 40)
        assert np.array_equal(clips.numpy(), (kept[-1:].astype(np.float64) / 40).astype(np.float32))


def test_a_clip_is_the_beginning_of_a_sequence(tmp_path):
    array = np.random.default_rng(0).random((9, 9, 1, 2, 2), np.float32)
    path = save(tmp_path / "a.npy", array)
    for options, expected in (
        ({}, (4, 5)),
        ({"past": 6}, (6, 3)),
        ({"future": 1}, (8, 1)),
        ({"past": 3, "future": 2}, (3, 2)),
    ):
        dataset = open_floats(path, **options)
        assert (dataset.clip.past, dataset.clip.future) == expected
        frames = sum(expected)
        assert np.array_equal(next(dataset.test(None, 1, "cpu")).numpy(), array[8:, :frames])
        assert dataset.batch(0, 0, 2, "cpu").shape[1] == frames
    for options in ({"past": 5, "future": 5}, {"past": 9}, {"past": 0}, {"future": -1}):
        with pytest.raises(ValueError, match="sequences of 9 frames"):
            open_floats(path, **options)


def test_the_digest_sees_shape_type_and_every_value(tmp_path, monkeypatch):
    base = np.zeros((6, 4, 1, 2, 3), np.float32)
    changed = base.copy()
    changed[-1, -1, 0, 1, 2] = 1e-6
    variants = [base, changed, base.astype(">f4"), base.reshape(6, 4, 1, 3, 2)]
    digests = [open_floats(save(tmp_path / "a.npy", array)).digest for array in variants]
    assert len(set(digests)) == 4
    monkeypatch.setattr("benchmarks.data.scan.CHUNK_BYTES", 200)  # two sequences at a time
    assert open_floats(save(tmp_path / "a.npy", base)).digest == digests[0]


def with_value(value):
    array = sequences(6)
    array[3, 2, 1, 0, 0] = value
    return array


@pytest.mark.parametrize(
    "array, message",
    [
        (sequences(6)[0, 0, 0], r"\(3, 4\); expected sequences \[N, T, C, H, W\]"),
        (sequences(6)[:0], "none of them 0"),
        (sequences(6)[:, :0], "none of them 0"),
        (sequences(6)[:, :1], "has sequences of 1 frame; expected 2 or more"),
        (sequences(6).astype(complex), "complex128; expected bool, integers, or floats"),
        (sequences(6).astype("U3"), "U3; expected bool, integers, or floats"),
        (sequences(6).astype(object), "it holds pickled objects; expected numbers"),
        (with_value(np.nan), r"1 NaN.* in sequence 3, frame 2, channel 1, row 0, column 0;"),
        (with_value(np.inf), r"1 NaN.* in sequence 3, frame 2, channel 1, row 0, column 0;"),
        (with_value(-np.inf), r"1 NaN.* in sequence 3, frame 2, channel 1, row 0, column 0;"),
        (with_value(2.5), r"to 2\.5; expected 0 to 1: .*data_range"),
        (with_value(-0.5), r"from -0\.5 to"),
    ],
)
def test_unusable_arrays_are_refused(tmp_path, array, message):
    with pytest.raises(ValueError, match=message):
        open_floats(save(tmp_path / "a.npy", array))


def test_unusable_options_and_files_are_refused(tmp_path):
    raw = save(tmp_path / "raw.npy", np.zeros((5, 4, 1, 2, 2), bool))
    with pytest.raises(ValueError, match="data_range=255 has no effect"):
        Arrays(raw, data_range=255)
    with pytest.raises(ValueError, match="data_range is -1"):
        Arrays(save(tmp_path / "floats.npy", sequences(5)), data_range=-1)
    for content in (b"", b"no array", raw.read_bytes()[:-1], b"PK\x03\x04 no zip"):
        (tmp_path / "broken.npy").write_bytes(content)
        with pytest.raises(ValueError, match=r"broken\.npy cannot be read"):
            open_floats(tmp_path / "broken.npy")
    for names in (("train", "other"), ("a", "b", "c")):
        np.savez(tmp_path / "names.npz", **{name: sequences(5) for name in names})
        with pytest.raises(ValueError, match=r"expected one array, or .* choose with --variable"):
            open_floats(tmp_path / "names.npz")
    np.savez(tmp_path / "shapes.npz", train=sequences(5), test=sequences(5, frames=6))
    with pytest.raises(ValueError, match="the same sizes but the first"):
        open_floats(tmp_path / "shapes.npz")


def test_one_array_in_an_npz_is_like_an_npy(tmp_path):
    np.savez(tmp_path / "a.npz", anything=sequences(6))
    assert numbers(next(open_floats(tmp_path / "a.npz").test(None, 9, "cpu"))) == [5]


# The range of floats


def test_floats_need_their_range(tmp_path):
    path = save(tmp_path / "a.npy", sequences(20))
    with pytest.raises(ValueError, match=r"float32 from 0 to 0\.296875; give .*--data-range LOW"):
        Arrays(path)
    for wrong in (0, (1, 1), (2, 1), (0, 1, 2)):
        with pytest.raises(ValueError, match="data_range is"):
            Arrays(path, data_range=wrong)


def test_the_smallest_value_is_subtracted(tmp_path):
    values = np.random.default_rng(0).uniform(-3, 5, (6, 4, 1, 2, 2)).astype(np.float32)
    dataset = Arrays(save(tmp_path / "a.npy", values), data_range=(-4, 6))
    assert dataset.value_range == (-4, 6)
    found = next(dataset.test(None, 1, "cpu"))
    assert np.allclose(found.numpy(), (values[-1:] + 4) / 10) and found.min() >= 0
    with pytest.raises(ValueError, match=r"values from -2\.9.* expected 0 to 6"):
        Arrays(tmp_path / "a.npy", data_range=[6])


# Recordings


def recording(frames, start=0):
    """A recording [frames, 1, 2, 3] uint8 whose every value is its frame's number."""
    numbers = np.arange(start, start + frames, dtype=np.uint8)
    return np.broadcast_to(numbers[:, None, None, None], (frames, 1, 2, 3)).copy()


def first_frames(clips):
    """The number of each clip's first frame."""
    return (clips[:, 0, 0, 0, 0] * 255).round().int().tolist()


def sides(dataset):
    """First frames of all clips: trained on, for validation, for test."""
    train = dataset.batch(0, 0, dataset.train_sequences, "cpu")
    others = (dataset.validation(999, 99, "cpu"), dataset.test(None, 99, "cpu"))
    return [sorted(first_frames(train)), *(first_frames(torch.cat(list(x))) for x in others)]


def test_a_recording_is_cut_in_time(tmp_path):
    path = save(tmp_path / "long.npy", recording(100))
    dataset = Arrays(path, past=2, future=3)
    assert dataset.clip == Clip(2, 3, 1, 2, 3, 1.0)
    assert sides(dataset) == [list(range(0, 80, 5)), [81], [90, 95]]
    clips = dataset.batch(0, 0, 4, "cpu")
    steps = (clips.diff(dim=1) * 255).round()
    assert (steps == 1).all(), "frames follow each other"
    dense = Arrays(path, past=2, future=3, stride=1)
    assert [len(side) for side in sides(dense)] == [77, 5, 6]
    assert "windows of 5 frames, 1 apart" in dense.caption
    assert (dataset.overlap(None), dense.overlap(None)) == (1, 5)
    assert (dense.overlap(2), dense.overlap(1)) == (2, 1), "of windows 0 and 3; of window 0"
    assert dense.digest != dataset.digest


def test_windows_of_different_sides_share_no_frame(tmp_path):
    dataset = Arrays(save(tmp_path / "long.npy", recording(200)), past=3, future=4, stride=1)
    seen = [{n + i for n in side for i in range(7)} for side in sides(dataset)]
    assert not seen[0] & seen[1] and not seen[1] & seen[2] and not seen[0] & seen[2]


@pytest.mark.parametrize("options", [{}, {"past": 3}, {"future": 3}])
def test_recordings_need_past_and_future(tmp_path, options):
    path = save(tmp_path / "long.npy", recording(100))
    with pytest.raises(ValueError, match="give --past and --future"):
        Arrays(path, **options)


def test_a_recording_that_is_too_short_says_for_which_side(tmp_path):
    path = save(tmp_path / "long.npy", recording(100))
    with pytest.raises(ValueError, match=r"past=5 \+ future=5 .* validation, 1 recording of 9 "):
        Arrays(path, past=5, future=5)


def test_stride_has_no_effect_on_whole_sequences(tmp_path):
    with pytest.raises(ValueError, match="stride=2 has no effect"):
        open_floats(save(tmp_path / "a.npy", sequences(6)), stride=2)


def test_ten_recordings_are_held_out_whole():
    recordings = [Recording(str(i), 0, 10 * i, 10) for i in range(12)]
    rest, held = hold_out(recordings, 1)
    assert held == recordings[-1:] and rest == recordings[:-1]
    rest, held = hold_out(recordings[:2], 0)
    assert [r.length for r in rest] == [9, 9] and held[1] == Recording("1", 9, 19, 1)


# HDF5 and Zarr


def write(path, **arrays):
    if path.suffix == ".zarr":
        group = zarr.open_group(str(path), mode="w")
        for name, array in arrays.items():
            group.create_array(name, shape=array.shape, dtype=array.dtype)[:] = array
    else:
        write_hdf5(path, **arrays)
    return path


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".zarr"])
def test_a_file_of_any_kind_gives_what_an_npy_gives(tmp_path, suffix):
    expected = open_floats(save(tmp_path / "a.npy", sequences(20)))
    dataset = open_floats(write(tmp_path / f"a{suffix}", anything=sequences(20)))
    assert dataset.clip == expected.clip
    assert torch.equal(dataset.batch(3, 1, 7, "cpu"), expected.batch(3, 1, 7, "cpu"))
    assert numbers(next(dataset.test(None, 9, "cpu"))) == [18, 19]
    both = write(tmp_path / f"b{suffix}", train=sequences(12), test=sequences(3))
    assert numbers(next(open_floats(both).test(None, 9, "cpu"))) == [0, 1, 2]
    long = write(tmp_path / f"c{suffix}", frames=recording(100))
    assert sides(Arrays(long, past=2, future=3))[2] == [90, 95]
    many = write(tmp_path / f"d{suffix}", a=sequences(4), b=sequences(4), c=sequences(4))
    with pytest.raises(ValueError, match=r"holds a \(4, 5, 2, 3, 4\), b .*, c .*--variable NAME"):
        open_floats(many)


def test_a_bare_zarr_array(tmp_path):
    zarr.save(str(tmp_path / "a.zarr"), sequences(20))
    assert numbers(next(open_floats(tmp_path / "a.zarr").test(None, 9, "cpu"))) == [18, 19]


def test_corrupt_files_are_refused(tmp_path):
    whole = write(tmp_path / "a.h5", x=sequences(20)).read_bytes()
    for content in (b"", b"no HDF5", whole[: len(whole) // 3]):
        (tmp_path / "broken.h5").write_bytes(content)
        with pytest.raises(ValueError, match=r"broken\.h5 cannot be read as HDF5"):
            open_floats(tmp_path / "broken.h5")
    (tmp_path / "broken.zarr").mkdir()
    with pytest.raises(ValueError, match=r"broken\.zarr cannot be read as Zarr"):
        open_floats(tmp_path / "broken.zarr")


# Folders


def images(folder, frames, mode="L", size=(3, 2), start=0):
    colours = [start + i if mode == "L" else (start + i, 7, 9) for i in range(frames)]
    pictures = {i: Image.new(mode, size, colour) for i, colour in enumerate(colours)}
    write_images(folder, pictures, "frame{}.png")


def test_a_folder_of_arrays_and_one_of_images(tmp_path):
    (tmp_path / "arrays").mkdir()
    for i in range(11):
        np.save(tmp_path / "arrays" / f"r{i}.npy", recording(8, 10 * i))
        images(tmp_path / "images" / f"r{i}", 8, start=10 * i)
    expected = [sorted(n + k for n in range(0, 90, 10) for k in (0, 4)), [90, 94], [100, 104]]
    for name in ("arrays", "images"):
        dataset = Arrays(tmp_path / name, past=2, future=2)
        assert sides(dataset) == expected, name
        assert dataset.clip == Clip(2, 2, 1, 2, 3, 1.0)


def test_images_keep_the_order_of_their_numbers_and_their_colours(tmp_path):
    images(tmp_path / "films" / "one", 100, "RGB")
    dataset = Arrays(tmp_path / "films", past=2, future=3)
    assert dataset.clip.channels == 3
    assert sides(dataset)[2] == [90, 95]  # frame9 came before frame10
    clips = next(dataset.test(1, 1, "cpu"))
    assert (clips[0, 0, :, 0, 0] * 255).round().int().tolist() == [90, 7, 9]


def test_folders_train_and_test_set_the_sides(tmp_path):
    for i in range(3):
        images(tmp_path / "mine" / "train" / f"r{i}", 40, start=40 * i)
    images(tmp_path / "mine" / "test" / "r0", 8, start=200)
    found = sides(Arrays(tmp_path / "mine", past=2, future=2))
    assert found[2] == [200, 204] and max(found[0]) < 120
    assert found[1] == [36, 76, 116]


def test_floats_in_a_folder_need_their_range_too(tmp_path):
    (tmp_path / "mine").mkdir()
    np.save(tmp_path / "mine" / "a.npy", recording(50) / np.float64(100))
    with pytest.raises(ValueError, match=r"float64 from 0 to 0\.49.*--data-range"):
        Arrays(tmp_path / "mine", past=1, future=1)
    dataset = Arrays(tmp_path / "mine", past=1, future=1, data_range=1)
    assert next(dataset.test(1, 1, "cpu"))[0, 0, 0, 0, 0] == pytest.approx(0.45)
    assert Arrays(tmp_path / "mine", past=1, future=1, data_range=0.49).value_range == (0, 0.49)
    with pytest.raises(ValueError, match=r"holds values from 0 to 0\.49.*; expected 0 to 0\.4:"):
        Arrays(tmp_path / "mine", past=1, future=1, data_range=0.4)


def test_unusable_folders_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no recording"):
        Arrays(tmp_path / "empty", past=1, future=1)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        Arrays(tmp_path / "absent")
    images(tmp_path / "sizes" / "a", 3)
    images(tmp_path / "sizes" / "b", 3, size=(4, 2))
    with pytest.raises(ValueError, match=r"b.frame0\.png has frames of uint8 \(1, 2, 4\), and a"):
        Arrays(tmp_path / "sizes", past=1, future=1)
    images(tmp_path / "cut" / "a", 3)
    whole = (tmp_path / "cut" / "a" / "frame1.png").read_bytes()
    (tmp_path / "cut" / "a" / "frame1.png").write_bytes(whole[:40])
    with pytest.raises(ValueError, match=r"frame1\.png cannot be read as an image"):
        Arrays(tmp_path / "cut", past=1, future=1)
    assert not list(cache_root().glob("*/frames.npy")), "nothing half-written is kept"
    (tmp_path / "deep").mkdir()
    np.save(tmp_path / "deep" / "a.npy", sequences(6))
    with pytest.raises(ValueError, match="go into one file"):
        Arrays(tmp_path / "deep", past=1, future=1)


def test_a_changed_folder_is_prepared_again(tmp_path):
    (tmp_path / "mine").mkdir()
    np.save(tmp_path / "mine" / "a.npy", recording(50))
    first = Arrays(tmp_path / "mine", past=1, future=1)
    np.save(tmp_path / "mine" / "b.npy", recording(60))
    second = Arrays(tmp_path / "mine", past=1, future=1)
    assert first.digest != second.digest and second.train_sequences > first.train_sequences
