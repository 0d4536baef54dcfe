"""HDF5 files: what reads other files, waits, or declares more than it holds is refused."""

from __future__ import annotations

import os
import struct

import h5py
import numpy as np
import pytest

from benchmarks.data.hdf5 import check_dataset, each, find_object, open_hdf5, reading_hdf5


def values():
    return np.arange(60, dtype="f4").reshape(5, 12)


@pytest.fixture
def path(tmp_path):
    """An empty HDF5 file."""
    h5py.File(tmp_path / "a.h5", "w").close()
    return tmp_path / "a.h5"


def check(path, name="x"):
    with open_hdf5(path) as file:
        check_dataset(path, find_object(file, name))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": (2, 5)},
        {"chunks": (5, 12), "compression": "gzip"},
        {"chunks": (1, 1), "maxshape": (None, 12)},
        {"dtype": "f8", "chunks": (100, 12), "maxshape": (None, 12), "compression": "lzf"},
    ],
)
def test_every_usual_layout_is_accepted(path, options):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=values(), **options)
    check(path)


def test_constant_frames_however_well_they_are_packed_are_accepted(path):
    with h5py.File(path, "w") as file:
        zeros = np.zeros((40, 500, 1000), "f4")
        file.create_dataset("x", data=zeros, chunks=(1, 500, 1000), compression=9)
        file["text"], file["one"] = ["a", "b"], 1.5
        file["none"], file["empty"] = np.zeros((0, 3)), h5py.Empty("f4")
    for name in ("x", "text", "one", "none", "empty"):
        check(path, name)


def test_a_file_that_another_process_has_locked_is_read(path):
    """Which is what it looks like on a file system without locks, too."""
    fcntl = pytest.importorskip("fcntl")
    with h5py.File(path, "w") as file:
        file["x"] = values()
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with open_hdf5(path) as file:
            assert np.array_equal(file["x"][()], values())
    with h5py.File(path, "r"), open_hdf5(path) as file:  # and one that this process reads
        assert np.array_equal(file["x"][()], values())


@pytest.mark.parametrize("secret", ["file", "pipe"])
def test_values_in_other_files_are_refused(path, tmp_path, secret):
    other = tmp_path / "secret"
    if secret == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("needs named pipes")
        os.mkfifo(other)
    else:
        h5py.File(other, "w").create_dataset("x", data=values())
    layout = h5py.VirtualLayout((5, 12), "f4")
    layout[:] = h5py.VirtualSource(other, "x", (5, 12))
    growing = h5py.VirtualLayout((5, 12), "f4", maxshape=(None, 12))
    source = h5py.VirtualSource(other, "x", (5, 12), maxshape=(None, 12))
    growing[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    with h5py.File(path, "w") as file:
        file.create_dataset("external", (5, 12), "f4", external=[(other, 0, h5py.h5f.UNLIMITED)])
        file.create_virtual_dataset("virtual", layout)
        file.create_virtual_dataset("growing", growing)
    for name in ("external", "virtual", "growing"):
        with pytest.raises(ValueError, match=rf"a\.h5: /{name} takes its values from other files"):
            check(path, name)


@pytest.mark.parametrize("secret", ["file", "pipe"])
def test_links_into_other_files_are_refused(path, tmp_path, secret):
    other = tmp_path / "secret.h5"
    if secret == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("needs named pipes")
        os.mkfifo(other)
    else:
        h5py.File(other, "w").create_dataset("group/x", data=values())
    with h5py.File(path, "w") as file:
        file["x"] = h5py.ExternalLink(other, "/group/x")
        file["group"] = h5py.ExternalLink(other, "/group")
        file["soft"] = h5py.SoftLink("/group/x")
    with open_hdf5(path) as file:
        for name in ("x", "group", "group/x", "soft"):
            with pytest.raises(ValueError, match=r"a\.h5 has a link into another file at "):
                find_object(file, name)


def test_links_within_the_file_are_followed(path):
    with h5py.File(path, "w") as file:
        file["a/b/x"] = values()
        file["a/x"] = h5py.SoftLink("b/./x")
        file["y"] = h5py.SoftLink("/a/x")
        file["nowhere"], file["a/type"] = h5py.SoftLink("/a/c"), np.dtype("f4")
        file["one"], file["two"] = h5py.SoftLink("/two/x"), h5py.SoftLink("one")
    with open_hdf5(path) as file:
        for name in ("a/b/x", "a/x", "y", "/y", "a//b/./x"):
            assert np.array_equal(find_object(file, name)[()], values())
        assert find_object(file["a"], "/y").shape == (5, 12)
        for name in ("z", "a/z", "y/z", "a/type/z", "nowhere"):
            assert find_object(file, name) is None
        with pytest.raises(ValueError, match=r"a\.h5 has links that lead in a circle"):
            find_object(file, "one")


@pytest.mark.parametrize(
    ("shape", "chunks", "written"),
    [
        ((10**9, 10**6), None, 0),
        ((10**9, 10**6), (1000, 1000), 10),
        ((2**40, 2**40), (100, 1000), 0),  # their product does not fit into 64 bits
    ],
)
def test_more_values_than_the_file_can_hold_are_refused(path, shape, chunks, written):
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("x", shape, "f8", chunks=chunks)
        dataset[:written, :written] = 1
    with pytest.raises(
        ValueError, match=r"a\.h5: /x declares [89],.* bytes of values, and the file"
    ):
        check(path)


def test_data_that_were_never_written_are_refused(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (100, 100), "f4")
    with pytest.raises(ValueError, match="declares 40,000 bytes of values, and the file stores 0"):
        check(path)


def test_an_address_beyond_the_file_does_not_make_it_larger(path):
    """The size that a contiguous dataset gives for itself is not believed."""
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.zeros(1234, "u1"))
    data = path.read_bytes()
    length = struct.pack("<Q", 1234)
    assert data.count(length) >= 2  # of the array, and of its bytes
    path.write_bytes(data.replace(length, struct.pack("<Q", 10**15)))
    with pytest.raises(ValueError, match=r"a\.h5"):
        check(path)


def test_chunks_too_large_to_unpack_are_refused(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (3,), "u1", chunks=(2**31,), maxshape=(None,), fillvalue=1)
        file["x"].id.write_direct_chunk((0,), b"x" * 5)
    with pytest.raises(ValueError, match=r"a\.h5: /x is stored in chunks of 2,147,483,648 bytes"):
        check(path)


@pytest.mark.parametrize("content", [b"", b"no HDF5", "half"])
def test_damaged_files_are_named_with_the_remedy(path, content):
    with h5py.File(path, "w") as file:
        file["x"] = values()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if content == "half" else content)
    with pytest.raises(ValueError, match=r"a\.h5 cannot be read as HDF5 \(.*\); download it") as e:
        open_hdf5(path, "download it again")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "error",
    [
        *(KeyError("x"), RuntimeError("x"), TypeError("x"), MemoryError(), OverflowError("x")),
        *(AttributeError("x"), UnicodeDecodeError("utf-8", b"", 0, 1, "x"), OSError("x")),
    ],
)
def test_every_error_of_the_library_names_the_file(path, error):
    with (
        pytest.raises(ValueError, match=r"a\.h5 cannot be read as HDF5 \(.+\); write it again"),
        reading_hdf5(path),
    ):
        raise error


def test_an_error_of_the_system_stays_one_and_names_the_file(path):
    error = PermissionError(13, "Unable to synchronously open file")
    with pytest.raises(PermissionError, match=r"a\.h5 cannot be read"), reading_hdf5(path):
        raise error


def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match="is a folder; expected a file"):
        open_hdf5(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="is a link to nothing"):
        open_hdf5(tmp_path / "link")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ValueError, match="is a named pipe"):
            open_hdf5(tmp_path / "pipe")


def test_a_list_is_read_in_order_and_only_as_far_as_it_is_asked_for(path):
    with h5py.File(path, "w") as file:
        file["x"] = [f"{number}" for number in range(1234)]
        file["none"] = np.zeros(0)
    with open_hdf5(path) as file:
        assert [int(text) for text in each(file["x"])] == list(range(1234))
        assert list(each(file["none"])) == []

        class Counted:
            read = 0

            def __len__(self):
                return 10**15

            def __getitem__(self, place):
                Counted.read += place.stop - place.start
                return file["x"][place]

        assert next(each(Counted())) == b"0" and 0 < Counted.read < 1234
