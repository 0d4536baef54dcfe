"""WeatherBench: files of two days in the official format, windows, levels, units and the suite."""

from __future__ import annotations

import datetime
import json
import pickle
import re

import h5py
import numpy as np
import pytest
import torch
from official_files import write_weather
from scipy.io import netcdf_file

from benchmarks.data import (
    WeatherBenchMV,
    WeatherBenchMVReleased,
    WeatherBenchR,
    WeatherBenchT2M,
    WeatherBenchTCC,
    WeatherBenchUV10,
    open_dataset,
)
from benchmarks.data.__main__ import main as data_command
from benchmarks.data.recordings import Recording
from benchmarks.data.weather_files import LATITUDES, first_hour, open_year, read_frames
from benchmarks.data.weatherbench import T2M, TCC, U10, V10, R, SpacedWindows, T, U, V, _starts
from benchmarks.experiment import cost
from benchmarks.experiment.plan import plan_panel
from benchmarks.experiment.spec import Training
from benchmarks.report.table import check_published, published_values
from benchmarks.run import main
from benchmarks.suites import find_suite
from benchmarks.totals import correlation

LEVELS = (50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000)
HOURS = 48
YEARS = {"train_years": (2010, 2011), "validation_years": (2016, 2016), "test_years": (2017, 2017)}


def first_of(year: int) -> datetime.datetime:
    """The last two days of 2010 and 2017, the first two of others: 2010 goes on in 2011."""
    return (
        datetime.datetime(year, 12, 30) if year in (2010, 2017) else datetime.datetime(year, 1, 1)
    )


def values(variable, year: int, levels: int = 0) -> np.ndarray:
    """Fields that tell hour, level and place: [48, 32, 64] or [48, levels, 32, 64] float32."""
    number = np.arange(HOURS, dtype=float) + 100 * (year - 2010)
    share = number[:, None, None] / 1000 + np.linspace(0, 0.1, 32 * 64).reshape(32, 64)
    if levels:
        share = share[:, None] / 2 + np.arange(levels)[:, None, None] / 30
    return (variable.low + (variable.high - variable.low) * share).astype(np.float32)


def write_years(root, variables, levels=(), years=(2010, 2011, 2016, 2017), **options):
    for variable in variables:
        for year in years:
            of = values(variable, year, len(levels))
            write_weather(root, variable, first_of(year), of, levels=levels, **options)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two days of four years."""
    folder = tmp_path_factory.mktemp("weather") / "data"
    write_years(folder / "weatherbench", (T2M, U10, V10, TCC))
    return folder


def open_t2m(root, **options):
    return open_dataset("weatherbench-t2m", root, **{**YEARS, **options})


# --- windows -------------------------------------------------------------------------------------


def test_windows_cross_new_year_and_leave_out_the_last_hour_and_window(root):
    dataset = open_t2m(root)
    assert dataset.train_sequences == 2 * HOURS - 23 - 1  # the last hour of 2011 is not there
    assert dataset.test_sequences == HOURS - 1 - 23 - 1
    assert dataset.overlap(None) == dataset.test_sequences < 24, "all share frames"
    assert dataset.overlap(2) == 2
    both = np.concatenate([values(T2M, 2010), values(T2M, 2011)])
    scaled = torch.from_numpy((both.astype(float) - 170) / 170).float()
    first, *_, last = dataset._train.starts
    assert (first, last) == (0, 2 * HOURS - 25)
    found = dataset._convert(dataset._train.read([30], 24), "cpu")  # hours 30 to 53, over new year
    torch.testing.assert_close(found[0, :, 0], scaled[30:54], rtol=0, atol=1e-6)
    (tested,) = dataset.test(1, 1, "cpu")
    expected = (values(T2M, 2017).astype(float) - 170) / 170
    torch.testing.assert_close(tested[0, :, 0].double().numpy(), expected[:24], rtol=0, atol=1e-6)
    assert dataset.value_range == (170, 340) and dataset.clip.past == 12
    assert dataset.provenance["train_years"] == "2010-2011"
    assert "inputs at hours -11 to 0, targets at hours 1 to 12" in dataset.caption


def test_the_climatology_is_the_mean_of_all_training_hours(root):
    both = np.concatenate([values(T2M, 2010), values(T2M, 2011)])
    expected = (both.mean(0, dtype=float, keepdims=True) - 170) / 170
    np.testing.assert_allclose(open_t2m(root).climatology(), expected, atol=1e-6)
    (run,) = plan_panel(
        find_suite("weatherbench"), "smoke", open_t2m(root), "cpu", rows=["Last frame"]
    )
    assert run.metrics["acc_latitude"].function.climatology.shape == (1, 32, 64)


def test_each_choice_of_years_has_prepared_frames_of_its_own(root):
    """Or two panels would overwrite each other's, and a training fail at its end."""
    one = open_t2m(root)
    other = open_t2m(root, train_years=(2011, 2011))
    one.check_unchanged()
    again = pickle.loads(pickle.dumps(one))
    assert again.digest == one.digest != other.digest
    (first,), (second,) = one.test(1, 1, "cpu"), again.test(1, 1, "cpu")
    assert torch.equal(first, second)


def test_the_real_years_give_the_released_loaders_counts():
    """Of hourly years without a gap; counts that OpenSTL's loader gives, computed apart."""
    for cls in (WeatherBenchT2M, WeatherBenchMV, WeatherBenchMVReleased):
        first = 2010 if cls is WeatherBenchT2M else 1979
        begin, step = first_hour(first) // cls.step, cls.step
        length = first_hour(2019) // step - begin
        offsets = cls.offsets or tuple(range(1 - cls.clip.past, cls.clip.future + 1))
        found = [
            len(_starts([Recording("x", begin, 0, length)], years, step, offsets))
            for years in ((first, 2015), (2016, 2016), (2017, 2018))
        ]
        assert tuple(found) == cls.counts
    assert WeatherBenchT2M.counts == (52_559, 8_759, 17_495)
    assert WeatherBenchMVReleased.counts[::2] == (54_019, 2_883)


def test_a_gap_is_not_crossed_and_is_told(tmp_path):
    write_years(tmp_path, (T2M,), years=(2011, 2016, 2017))
    gap = np.delete(np.arange(HOURS), 24)
    time = (datetime.datetime(2010, 12, 30) - datetime.datetime(1900, 1, 1)).days * 24 + gap
    of = values(T2M, 2010)[gap]
    write_weather(tmp_path, T2M, first_of(2010), of, times=time)
    dataset = open_t2m(tmp_path)
    starts = dataset._train.starts
    assert len(starts) == 1 + (23 + HOURS - 23) - 1  # 24 hours, then 23 and those of 2011
    assert starts[:3].tolist() == [0, 24, 25]
    assert "2010 has 47 of 8,760 hours" in dataset.notes


def test_years_that_overlap_or_are_missing_are_refused(root):
    with pytest.raises(ValueError, match=r"train_years .*2016.* and validation_years .* overlap"):
        open_t2m(root, train_years=(2010, 2016))
    with pytest.raises(ValueError, match=r"test_years are \(2018, 2017\)"):
        open_t2m(root, test_years=(2018, 2017))
    with pytest.raises(FileNotFoundError) as error:
        open_dataset("weatherbench-t2m", root)
    said = str(error.value)
    assert "needs 2m_temperature_2012_5.625deg.nc, " in said and " and 2 more; " in said
    assert f"`python -m benchmarks.data download weatherbench-t2m --data {root}`" in said


# --- variables, levels, units --------------------------------------------------------------------


def test_both_components_of_the_wind_share_a_range(root):
    dataset = open_dataset("weatherbench-uv10", root, **YEARS)
    (tested,) = dataset.test(1, 1, "cpu")
    assert dataset.clip.channels == 2 and dataset.value_range == (-75, 75)
    for channel, variable in enumerate((U10, V10)):
        expected = (values(variable, 2017)[:24].astype(float) + 75) / 150
        np.testing.assert_allclose(tested[0, :, channel].numpy(), expected, atol=1e-6)


def test_cloud_cover_is_a_fraction_that_rounding_may_leave(tmp_path):
    write_years(tmp_path, (TCC,), years=(2010, 2011, 2016))
    of = values(TCC, 2017)
    of[:, 0, 0], of[:, 0, 1] = -1e-7, 1.0000002
    write_weather(tmp_path, TCC, first_of(2017), of)
    dataset = open_dataset("weatherbench-tcc", tmp_path, **YEARS)
    (tested,) = dataset.test(1, 1, "cpu")
    assert dataset.value_range == (0, 1)
    assert (tested.min(), tested.max()) == (0, 1)
    assert tested[0, 3, 0, 4, 5] == torch.tensor(of[3, 4, 5])


def test_humidity_is_that_of_1000_hpa_wherever_the_level_stands(tmp_path):
    order = (1000, *LEVELS[:-1])
    write_years(tmp_path, (R,), levels=order)
    dataset = open_dataset("weatherbench-r", tmp_path, **YEARS)
    (tested,) = dataset.test(1, 1, "cpu")
    expected = (values(R, 2017, 13)[:24, 0].astype(float) + 50) / 250
    np.testing.assert_allclose(tested[0, :, 0].numpy(), expected, atol=1e-6)
    path = write_weather(tmp_path, R, first_of(2017), values(R, 2017, 2), levels=(850, 925))
    with pytest.raises(ValueError, match=r"has the levels \[850, 925\] hPa; expected \[1000\] too"):
        open_year(path, dataset.variables[0], 2017)


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """The twelve channels' files, of the last two days of 2010 and the first two of others."""
    folder = tmp_path_factory.mktemp("mv")
    levels = (850, 500, 150, 1000)
    for variable in (R, T, U, V):
        for year in (2010, 2016, 2017):
            hours = [values(variable, year + i, 4) for i in range(5 if year == 2010 else 1)]
            of = np.concatenate(hours)
            first = first_of(year) - datetime.timedelta(hours=len(of) - HOURS)
            write_weather(folder, variable, first, of, levels=levels)
    return folder


def test_twelve_channels_are_each_scaled_by_its_variable_and_six_hours_apart(several):
    years = {**YEARS, "train_years": (2010, 2010), "test_years": (2016, 2016)}
    years["validation_years"] = (2017, 2017)
    with pytest.raises(ValueError, match="has no validation sequence of 8 frames"):
        open_dataset("weatherbench-mv", several, **years)
    dataset = open_dataset("weatherbench-mv", several, past=2, future=2, **years)
    (tested,) = dataset.test(1, 1, "cpu")
    assert tested.shape == (1, 4, 12, 32, 64) and dataset.value_range == (0, 1)
    channel = 0
    for variable in (R, T, U, V):
        for level in (2, 1, 0):  # 150, 500, 850 in files of 850, 500, 150, 1000
            of = values(variable, 2016, 4)[[0, 6, 12, 18], level].astype(float)
            expected = (of - variable.low) / (variable.high - variable.low)
            np.testing.assert_allclose(tested[0, :, channel].numpy(), expected, atol=1e-5)
            channel += 1
    assert "inputs at hours -6, 0, targets at hours 6, 12" in dataset.caption
    assert "r at 150, 500, 850 hPa (from -50 to 200 %)" in dataset.caption


def test_the_released_loaders_frames_are_36_hours_apart():
    """Its first window, by a run of the loader itself: hours 0, 36, 72, 102; 108, 144, 180, 216."""
    offsets = WeatherBenchMVReleased.offsets
    assert [6 * (o - offsets[0]) for o in offsets] == [0, 36, 72, 102, 108, 144, 180, 216]


def test_the_released_windows_read_frames_at_their_offsets(several):
    years = {**YEARS, "train_years": (2010, 2010), "test_years": (2016, 2016)}
    years["validation_years"] = (2017, 2017)
    with pytest.raises(ValueError, match="has no validation sequence"):
        open_dataset("weatherbench-mv-released", several, **years)
    with pytest.raises(ValueError, match="option 'future' does not exist"):
        open_dataset("weatherbench-mv-released", several, future=28, **years)
    meant = open_dataset("weatherbench-mv", several, past=2, future=2, **years)
    windows = SpacedWindows(
        meant._prepared.frames, np.array([1, 2]), WeatherBenchMVReleased.offsets
    )
    frames = meant._prepared.frames[0:40]
    expected = frames[[2, 8, 14, 19, 20, 26, 32, 38]]
    np.testing.assert_array_equal(windows.read([1], 8)[0], expected)
    np.testing.assert_array_equal(windows.read([0, 1], 5)[1], expected[:5])
    assert windows.stretches([0, 1], 8).tolist() == [[1, 37], [2, 38]]


@pytest.mark.parametrize(
    "epoch",
    ["hours since 1970-01-01", "hours since 2016-01-01 00:00:00", "seconds since 2001-02-03 04:00"],
)
def test_times_are_read_by_the_epoch_that_each_file_tells(tmp_path, epoch):
    path = write_weather(tmp_path, T2M, first_of(2016), values(T2M, 2016), epoch=epoch)
    hours = open_year(path, T2M, 2016).hours
    assert hours.tolist() == [first_hour(2016) + i for i in range(HOURS)]


def test_times_may_have_a_fill_value(tmp_path):
    path = write_weather(tmp_path, T2M, first_of(2016), values(T2M, 2016))
    hours = open_year(path, T2M, 2016).hours
    with h5py.File(path, "r+") as file:
        file["time"].attrs["_FillValue"] = np.int64(-1)
    assert (open_year(path, T2M, 2016).hours == hours).all()


def test_packed_and_classic_files_give_the_same_frames(tmp_path):
    of = values(T2M, 2016)
    plain = write_weather(tmp_path / "plain", T2M, first_of(2016), of)
    packed = np.rint((of - 255) / 0.01).astype(np.int16)
    path = write_weather(
        tmp_path / "packed", T2M, first_of(2016), packed, scale_factor=0.01, add_offset=255.0
    )
    (block,) = read_frames([open_year(plain, T2M, 2016)], [T2M], 1)
    (other,) = read_frames([open_year(path, T2M, 2016)], [T2M], 1)
    np.testing.assert_allclose(other.frames, block.frames, atol=0.0051)

    classic = tmp_path / "classic" / "2m_temperature_2016_5.625deg.nc"
    classic.parent.mkdir()
    with netcdf_file(classic, "w") as file:
        for name, numbers in {
            "time": np.arange(HOURS, dtype=np.int32),
            "lat": np.array(LATITUDES),
            "lon": np.arange(64) * 5.625,
        }.items():
            file.createDimension(name, len(numbers))
            file.createVariable(name, numbers.dtype, (name,))[:] = numbers
        file.variables["time"].units = "hours since 2016-01-01 00:00:00"
        file.createVariable("t2m", "f4", ("time", "lat", "lon"))[:] = of
    (third,) = read_frames([open_year(classic, T2M, 2016)], [T2M], 1)
    np.testing.assert_array_equal(third.frames, block.frames)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"latitudes": LATITUDES[::-1]},
            r"lat has 32 values, 87\.1875 to -87\.1875; .* from south",
        ),
        ({"times": np.arange(HOURS)[::-1]}, "times are not rising full hours of 2016"),
        ({"times": np.arange(HOURS)}, "not rising full hours of 2016, or another year's"),
    ],
)
def test_axes_that_are_not_the_published_ones_are_refused(tmp_path, options, message):
    path = write_weather(tmp_path, T2M, first_of(2016), values(T2M, 2016), **options)
    with pytest.raises(ValueError, match=f"{path.name}: .*{message}.*replace {path.name}"):
        open_year(path, T2M, 2016)


def test_units_calendars_and_variables_that_are_not_known_are_refused(tmp_path):
    path = write_weather(tmp_path, T2M, first_of(2016), values(T2M, 2016))
    for name, value in (("calendar", "noleap"), ("units", "fortnights since 1900-01-01")):
        with h5py.File(path, "r+") as file:
            before = file["time"].attrs[name]
            file["time"].attrs[name] = value
        with pytest.raises(ValueError, match=f"time has the units .*{value}"):
            open_year(path, T2M, 2016)
        with h5py.File(path, "r+") as file:
            file["time"].attrs[name] = before
    with pytest.raises(ValueError, match=r"no array 'tcc'; it holds .*t2m.*again"):
        open_year(path, TCC, 2016)


@pytest.mark.parametrize(("wrong", "printed"), [(np.nan, "nan"), (25.0, "25")])  # Celsius
def test_a_value_that_is_missing_or_in_another_unit_is_named_by_its_hour(tmp_path, wrong, printed):
    of = values(T2M, 2016)
    of[30, 3, 4] = wrong
    path = write_weather(tmp_path, T2M, first_of(2016), of)
    said = rf"{path.name}: t2m of 2016-01-02 06:00 holds {printed}; expected 170 to 340 K"
    with pytest.raises(ValueError, match=said):
        list(read_frames([open_year(path, T2M, 2016)], [T2M], 1))


def test_components_of_other_hours_are_refused(tmp_path):
    one = write_weather(tmp_path, U10, first_of(2016), values(U10, 2016))
    other = write_weather(tmp_path, V10, first_of(2016), values(V10, 2016)[:40])
    years = [open_year(path, of, 2016) for path, of in ((one, U10), (other, V10))]
    with pytest.raises(ValueError, match=f"{other.name} has other hours than .*{one.name}"):
        list(read_frames(years, [U10, V10], 1))


# --- the commands --------------------------------------------------------------------------------


def test_absent_files_are_told_with_the_command_that_gets_them(tmp_path, capsys):
    assert main(["--suite", "weatherbench", "--data", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"`python -m benchmarks.data download weatherbench-t2m --data {tmp_path}`" in line
    assert data_command(["list", "--data", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for cls in (WeatherBenchT2M, WeatherBenchUV10, WeatherBenchR, WeatherBenchTCC):
        assert f"{cls.name}: WeatherBench at 5.625 degrees" in shown
    assert re.search(r"missing +weatherbench/2m_temperature/2m_temperature_\*_5.625deg.nc", shown)


def test_a_table_of_official_files_is_in_kelvin_and_weighs_rows_by_latitude(tmp_path, capsys):
    """All years that the suite reads, of two days each; wind, humidity and clouds are missing."""
    write_years(tmp_path / "data" / "weatherbench", (T2M,), years=range(2010, 2019))
    out = tmp_path / "out"
    asked = ["--suite", "weatherbench", "--scale", "smoke", "--rows", "Last frame"]
    asked += ["--data", str(tmp_path / "data"), "--no-figures", "--out", str(out)]
    assert main([*asked, "--device", "cpu"]) == 0
    told = capsys.readouterr()
    assert "uv10 is left out: weatherbench-uv10 needs weatherbench/10m_u" in told.err
    assert "errors are in the data's own unit, which spans 170 to 340" in told.out
    assert (
        "Weather uv10 5.625 of the OpenSTL model zoo after 50 epochs" in told.out
        and "no weights by latitude" in told.out
    )
    (record,) = json.loads(next((out / "records").iterdir()).read_text())
    first, second = (values(T2M, year).astype(float) for year in (2017, 2018))
    assert record["report"]["panel"] == "t2m"
    starts = range(2 * HOURS - 23 - 1)  # 2017 goes on in 2018
    both = np.concatenate([first, second])
    chosen = [starts[i * len(starts) // 8] for i in range(8)]
    errors = np.stack([both[s + 12 : s + 24] - both[s + 11] for s in chosen])
    weights = np.cos(np.deg2rad(LATITUDES)) / np.cos(np.deg2rad(LATITUDES)).mean()
    normal = np.concatenate([values(T2M, year) for year in range(2010, 2016)]).mean(0)
    f = np.stack([both[s + 11] - normal for s in chosen])[:, None]
    o = np.stack([both[s + 12 : s + 24] - normal for s in chosen])
    f, o = np.broadcast_arrays(f, o)
    expected = {
        "rmse_total": np.sqrt((errors**2).mean()),
        "rmse_latitude": np.sqrt((errors**2 * weights[:, None]).mean()),
        "mae_mean": np.abs(errors).mean(),
        "acc_latitude": correlation(
            np.array([(of * weights[:, None]).mean() for of in (f * o, f * f, o * o)])
        ),
    }
    for name, value in expected.items():
        assert record["means"][name] == pytest.approx(value, rel=1e-4), name


def test_published_numbers_stand_beside_the_fields_they_are_of():
    suites = {name: find_suite(name) for name in ("weatherbench", "weatherbench_mv")}
    for suite in suites.values():
        check_published(suite)
    ours, simvp = (
        [value and value.value for value in published_values(suites[name], label, None)]
        for name, label in (("weatherbench", "Ours"), ("weatherbench_mv", "SimVP"))
    )
    assert ours[:3] == [1.078, 1.162, 0.6707]  # temperature: RMSE, MSE, MAE
    assert len(ours) == 12 and None not in ours
    assert simvp[1] == 2.4712  # temperature, after humidity


def test_the_suites_have_the_released_settings_and_sizes():
    """Rates as released; parameters and multiply-adds are those that the model zoo prints."""
    suite = find_suite("weatherbench")
    rates = {
        panel.name: [
            (row.training["paper"]["lr"], row.training["paper"].get("schedule", "cosine"))
            for row in suite.rows_of(panel)
            if row.label in ("SimVP", "Ours")
        ]
        for panel in suite.panels
    }
    cosine, cycle = "cosine", "onecycle"
    assert rates == {
        "t2m": [(1e-2, cosine), (5e-3, cycle)],
        "uv10": [(5e-3, cosine), (5e-3, cycle)],
        "r": [(1e-3, cosine), (5e-3, cosine)],
        "tcc": [(1e-2, cosine), (5e-4, cycle)],
    }
    assert suite.training["paper"] == Training(epochs=50, sequences=None, schedule="cosine")
    for name, label, printed in (
        ("weatherbench", "SimVP", ("14.67", "8.03")),
        ("weatherbench", "Ours", ("12.22", "6.70")),
        ("weatherbench", "PredFormer", ("5.27", "8.54")),
        ("weatherbench_mv", "Ours", ("9.55", "5.01")),
    ):
        suite = find_suite(name)
        (row,) = (row for row in suite.rows if row.label == label)
        parameters, macs = cost.size(row.model, suite.panels[0].clip, row.at("paper"))
        assert (f"{parameters / 1e6:.2f}", f"{macs / 1e9:.2f}") == printed


def test_a_variable_among_several_is_printed_in_its_unit():
    (panel,) = find_suite("weatherbench_mv").panels
    columns = {column.name: column for column in panel.columns}
    assert len(columns) == 8
    temperature = columns["rmse_total_t"]
    true = torch.zeros(1, 1, 12, 32, 64)
    pred = true.clone()
    pred[:, :, 3:6] = 2 / 170  # 2 K
    pred[:, :, :3] = 1  # humidity
    found = temperature.factor * temperature.number(temperature(pred, true, 1.0).numpy())
    assert found == pytest.approx(2, rel=1e-6)
    assert temperature.title == "RMSE t K" and columns["rmse_latitude_u"].unit == "cos φ, m/s"
