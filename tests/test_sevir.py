"""SEVIR: which events are used, how they are split and cut, and what is wrong with files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from official_files import SEVIR_COLUMNS, sevir_event, sevir_line, write_sevir

from benchmarks.data import SEVIR, SEVIRLowRes, open_dataset
from benchmarks.data.__main__ import main
from benchmarks.data.dataset import divide_by_255
from benchmarks.data.sevir import EVENTS, FILES, read_catalogue
from benchmarks.experiment.plan import Options, plan
from benchmarks.suites import find_suite

STORM = "vil/2018/SEVIR_VIL_STORMEVENTS_2018_0101_0630.h5"
RANDOM = "vil/2019/SEVIR_VIL_RANDOMEVENTS_2019_0501_0831.h5"
LINES = (  # id, file, row, time; by split: S1 R2 R3 train, R4 validation, R5 R6 test
    sevir_line("S1", STORM, 0, "2018-06-01 00:00:00"),
    sevir_line("S1", STORM.replace("vil", "vis"), 0, "2018-06-01 00:00:00", "vis"),
    sevir_line("S9", STORM, 1, "2018-06-02 00:00:00", missing="5.0"),
    sevir_line("R7", STORM, 2, "2018-06-03 00:00:00"),
    sevir_line("R7", RANDOM, 3, "2018-06-03 00:00:00"),
    sevir_line("R2", RANDOM, 0, "2019-01-01 00:00:00"),
    sevir_line("R4", RANDOM, 1, "2019-06-01 00:00:00"),
    sevir_line("R5", RANDOM, 2, "2019-06-01 00:05:00"),
)


def write(root: Path, lines: Sequence[str] = LINES, *, low: bool = True, **names: str) -> Path:
    """A data folder with the catalogue and both files; returns the catalogue's path."""
    folder, side, frames = ("sevir_lr", 128, 25) if low else ("sevir", 384, 49)
    for file, ids in ((STORM, ("S1", "S9", "R7")), (RANDOM, ("R2", "R4", "R5", "R7"))):
        number = 50 * (file == RANDOM)
        events = {name: sevir_event(number + i, side, frames) for i, name in enumerate(ids)}
        write_sevir(root / folder, file, events, **names)
    catalogue = root / folder / "CATALOG.csv"
    catalogue.write_text("\n".join([SEVIR_COLUMNS, *lines, ""]))
    return catalogue


def values(frames: torch.Tensor) -> list[list[int]]:
    """The value of each frame of each sequence, 0 to 255; ValueError if it has several."""
    flat = (255 * frames.flatten(2)).round().int()
    assert bool((flat == flat[..., :1]).all())
    return [list(sequence) for sequence in flat[..., 0].tolist()]


def test_events_with_missing_pixels_or_a_repeated_id_are_left_out(tmp_path: Path) -> None:
    catalogue = read_catalogue(write(tmp_path))
    found = {split: [event.id for event in of] for split, of in catalogue.events.items()}
    assert found == {"train": ["S1", "R2"], "validation": ["R4"], "test": ["R5"]}
    assert (catalogue.incomplete, catalogue.repeated) == (1, 2)


@pytest.mark.parametrize(("low", "starts"), [(True, (0, 6, 12)), (False, (0, 12, 24))])
def test_an_event_gives_three_windows_that_overlap_by_a_frame(
    tmp_path: Path, low: bool, starts: tuple[int, ...]
) -> None:
    write(tmp_path, low=low)
    data: SEVIR = (SEVIRLowRes if low else SEVIR)(tmp_path, downsample=16)
    assert (data.train_sequences, data.test_sequences) == (6, 3)
    length = data.clip.frames
    event = 4 * np.arange(49) + 52  # R5 is the third of its file
    expected = [event[start : start + length].tolist() for start in starts]
    assert values(torch.cat(list(data.test(None, 2, "cpu")))) == expected
    assert values(next(data.validation(1, 1, "cpu"))) == [(event[:length] - 1).tolist()]
    first = {sequence[0] for sequence in values(data.batch(0, 0, 6, "cpu"))}
    assert first == {value + 4 * start for value in (0, 50) for start in starts}
    assert starts[-1] + length == data.event_frames
    assert data.overlap(None) == 3 and data.overlap(2) == 2 and data.overlap(1) == 1
    assert data._train.stretches([2, 3], 5).tolist() == [
        [starts[2], starts[2] + 4],
        [data.event_frames, data.event_frames + 4],
    ], "events do not overlap"


def test_official_files_that_are_not_whole_are_told_before_each_run(tmp_path, capsys):
    write(tmp_path)
    for data, is_told in ((str(tmp_path), True), (str(tmp_path), True), ("synthetic", False)):
        options = Options("sevir_lr", scale="smoke", rows=["Last frame"], device="cpu", data=data)
        plan(find_suite("sevir_lr"), options)
        told = "sevir-lr: 3 of 3 counts are not those of the official files, such as train events: "
        assert (told in capsys.readouterr().err) == is_told


def test_other_frames_and_the_unit(tmp_path: Path) -> None:
    write(tmp_path)
    data = SEVIRLowRes(tmp_path, past=3, future=2)
    assert data.test_sequences == 11  # a window from every second frame
    assert data.value_range == (0.0, 255.0) and data.divided_by_255
    assert data.caption == (
        "SEVIR-LR VIL: trained on 22 windows of events until 1 January 2019, 11 until 1 June 2019 "
        "for validation; tested on 11 of later events. 1 events with missing pixels and 2 with "
        "repeated ids are left out."
    )
    with pytest.raises(ValueError, match="past and future are 26 frames; an event has 25"):
        SEVIRLowRes(tmp_path, past=20)


def test_a_pixel_without_a_value_is_no_rain(tmp_path: Path) -> None:
    write(tmp_path)
    event = sevir_event(50, 128, 25)
    event[3, 4, 5] = 255
    write_sevir(tmp_path / "sevir_lr", RANDOM, dict.fromkeys(("R2", "R4", "R5", "R7"), event))
    frame = next(SEVIRLowRes(tmp_path).test(1, 1, "cpu"))[0, 5, 0]
    assert frame[3, 4] == 0 and frame[4, 3] == np.float32((50 + 20) / 255)


def test_rows_stay_in_order_and_axes_in_place(tmp_path: Path) -> None:
    write(tmp_path)
    event = np.random.default_rng(0).integers(0, 255, (128, 128, 25), np.uint8)
    write_sevir(tmp_path / "sevir_lr", RANDOM, dict.fromkeys(("R2", "R4", "R5", "R7"), event))
    frames = next(SEVIRLowRes(tmp_path).test(1, 1, "cpu"))[0, :, 0]
    expected = event[..., :13].transpose(2, 0, 1) / np.float32(255)
    assert np.array_equal(frames.numpy(), expected)


def line(**changes: str) -> str:
    fields = {"name": "S1", "file": STORM, "row": "0", "time": "2018-06-01 00:00:00"} | changes
    return sevir_line(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([line(time="yesterday")], r"line 2: time_utc is 'yesterday'; expected yyyy"),
        ([line(row="one")], "line 2: invalid literal"),
        ([line(row="-1")], "line 2: no event is in row -1"),
        ([LINES[0], line(file="../secret.h5")], "line 3: no event is in row 0 of '../secret.h5'"),
        ([line(file="/etc/x.h5")], "no event is in row 0 of '/etc/x.h5'"),
        ([line(missing="few")], "could not convert string to float"),
        ([LINES[0][:90]], "line 2: it has more or fewer columns than the first"),
        ([LINES[0] + ",1"], "line 2: it has more or fewer columns than the first"),
        (["a" * 200_000], "line 1: field larger than field limit"),
    ],
)
def test_a_damaged_catalogue_names_its_line(tmp_path: Path, lines: list[str], message: str) -> None:
    path = write(tmp_path, lines)
    with pytest.raises(ValueError, match=message) as error:
        SEVIRLowRes(tmp_path)
    assert str(path) in str(error.value) and "download it again" in str(error.value)


def test_a_catalogue_without_a_column_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text().replace("pct_missing", "missing"))
    with pytest.raises(ValueError, match="line 1: it lacks the columns pct_missing"):
        SEVIRLowRes(tmp_path)


def test_a_split_without_events_is_named(tmp_path: Path) -> None:
    write(tmp_path, LINES[:-1])
    with pytest.raises(ValueError, match="sevir-lr has no test sequence of 13 frames"):
        SEVIRLowRes(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"vil": "vis"}, r"has \['id', 'vis'\]; expected the array 'vil'"),
        ({"vil": "id", "id": "vil"}, r"vil is \|S20 \(3,\); expected uint8 \(N, 128, 128, 25\)"),
    ],
)
def test_a_file_without_its_array_is_refused(
    tmp_path: Path, names: dict[str, str], message: str
) -> None:
    write(tmp_path, **names)
    with pytest.raises(ValueError, match=message):
        SEVIRLowRes(tmp_path)


def test_files_that_do_not_go_with_the_catalogue_are_refused(tmp_path: Path) -> None:
    write(tmp_path, [*LINES, sevir_line("R8", RANDOM, 4, "2019-08-01 00:00:00")])
    with pytest.raises(ValueError, match=r"0831\.h5 has 4 events, and the catalogue names row 4"):
        SEVIRLowRes(tmp_path)
    write(tmp_path, [*LINES, sevir_line("R8", RANDOM, 0, "2019-08-01 00:00:00")])
    with pytest.raises(ValueError, match=r"row 0 is the event 'R2', and 'R8' in the catalogue"):
        SEVIRLowRes(tmp_path)
    write(tmp_path, [*LINES, sevir_line("R8", RANDOM, 0, "2019-08-01 00:00:00")], id="")
    assert SEVIRLowRes(tmp_path).test_sequences == 6  # files without ids are taken as they are


def test_missing_files_are_named_with_the_command_that_gets_them(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"sevir needs .* download sevir --data DIR"):
        SEVIR()
    catalogue = write(tmp_path, low=False)
    (catalogue.parent / "data" / RANDOM).unlink()
    with pytest.raises(FileNotFoundError, match=rf"1 of the 2 files .*: {RANDOM}; .* sevir --data"):
        SEVIR(tmp_path)


def test_the_data_change_with_the_events_and_the_files(tmp_path: Path) -> None:
    write(tmp_path)
    first = SEVIRLowRes(tmp_path).provenance
    assert SEVIRLowRes(tmp_path).provenance == first
    write(tmp_path, [*LINES, sevir_line("S8", STORM, 0, "2017-06-01 00:00:00")], id="")
    assert SEVIRLowRes(tmp_path).provenance["events_sha256"] != first["events_sha256"]


def test_the_official_files_are_listed() -> None:
    assert len(FILES) == len(set(FILES)) == 14
    assert {STORM, RANDOM} < set(FILES)
    assert [3 * count for count in EVENTS.values()] == [35_718, 9_060, 12_159]  # Earthformer's


def test_the_command_verifies_and_prepares(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write(tmp_path)
    assert main(["prepare", "sevir-lr", "--data", str(tmp_path)]) == 0
    assert "sevir-lr needs no preparation" in capsys.readouterr().out
    assert main(["verify", "sevir-lr", "--data", str(tmp_path)]) == 1
    assert "DIFFERS  test events: expected 4053, found 1" in capsys.readouterr().out


# The suites


@pytest.mark.parametrize("name", ["sevir", "sevir_lr"])
def test_a_pixel_at_a_threshold_is_an_event(name: str) -> None:
    (panel,) = find_suite(name).panels
    columns = {column.name: column for column in panel.columns}
    frames = {value: divide_by_255(torch.full((1, 1, 1, 4, 4), value)) for value in range(256)}
    for threshold in (16, 74, 133, 160, 181, 219):
        csi = columns[f"csi_{threshold}"]
        assert csi(frames[threshold], frames[threshold], 1.0).tolist() == [[[1, 0, 0]]]
        assert csi(frames[threshold - 1], frames[threshold], 1.0).tolist() == [[[0, 1, 0]]]
    assert {"csi_m", "csi_m_pool4", "csi_m_pool16", "pod_m", "sucr_m", "hss_m"} < columns.keys()


def test_the_mse_in_print_is_of_values_from_0_to_1_times_1000(tmp_path: Path) -> None:
    write(tmp_path)
    low, high = SEVIRLowRes(tmp_path).value_range
    column = find_suite("sevir_lr").panels[0].columns[-1]
    true = torch.zeros(1, 1, 1, 4, 4)
    stored = column(true + 0.5, true, 1.0) * (high - low) ** column.degree
    assert float(stored) * column.factor == pytest.approx(250)


@pytest.mark.parametrize("name", ["sevir", "sevir_lr"])
@pytest.mark.parametrize("scale", ["smoke", "quick", "standard", "paper"])
def test_the_stand_in_has_the_frames_of_each_scale(name: str, scale: str) -> None:
    (panel,) = find_suite(name).panels
    data = open_dataset(panel.dataset, synthetic=True, **panel.dataset_options.get(scale, {}))
    side = {"smoke": 32, "quick": 64, "standard": 128}.get(scale, panel.clip.height)
    assert (data.clip.height, data.clip.width) == (side, side)
    assert data.clip.past == panel.clip.past and data.value_range == (0.0, 255.0)
