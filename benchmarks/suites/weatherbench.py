"""WeatherBench at 5.625 degrees as in OpenSTL: 12 hours of one field to the next 12.

Temperature, wind, humidity and cloud cover, with models as released for them; ConvLSTM, PredRNN and
PredFormer have the settings released for temperature. Adam (PredFormer: AdamW) for 50 epochs of all
training windows, cosine but for Ours, which is released with one cycle except on humidity. Our
cosine warms up over a tenth of the epochs, theirs does not.
"""

from __future__ import annotations

from collections.abc import Sequence

from baselines import ConvLSTM, LastFrame, PredFormer, PredRNN, SimVP
from benchmarks.data import (
    Dataset,
    WeatherBenchR,
    WeatherBenchT2M,
    WeatherBenchTCC,
    WeatherBenchUV10,
)
from benchmarks.data.weather_files import LATITUDES
from benchmarks.experiment.spec import Panel, PublishedTable, Row, Suite, Training
from benchmarks.suites import sizes
from benchmarks.suites.notes import NOTES, ZOO
from benchmarks.suites.sizes import SMALL, released
from benchmarks.totals import (
    MEAN_MAE,
    MEAN_MSE,
    ROOT_MSE,
    anomaly_correlation,
    latitude_weighted_rmse,
)
from tau import TAU

RELEASED = Training(epochs=50, sequences=None, schedule="cosine")
TRAINING = {
    "smoke": Training(
        epochs=1, sequences=16, batch_size=4, val_sequences=4, test_sequences=8, **SMALL
    ),
    "quick": Training(
        epochs=6, sequences=160, batch_size=4, val_sequences=32, test_sequences=200, **SMALL
    ),
    "standard": RELEASED,
    "paper": RELEASED,
}
COLUMNS = (
    *(ROOT_MSE, latitude_weighted_rmse(LATITUDES), MEAN_MSE, MEAN_MAE),
    anomaly_correlation(LATITUDES),
)


def rows(simvp: float, ours: float, schedule: str, steps: int = 50 * 3_284) -> tuple[Row, ...]:
    """The rows, with these learning rates, the schedule of Ours, and the steps of a training."""
    recurrent = sizes.weather_recurrent(steps)
    return (
        Row("Last frame", LastFrame, note=NOTES["Last frame"]),
        Row(
            "ConvLSTM",
            ConvLSTM,
            sizes=recurrent,
            training=released(lr=5e-4),
            note=NOTES["ConvLSTM"],
        ),
        Row(
            "PredRNN",
            PredRNN,
            sizes=recurrent,
            training=released(lr=5e-4),
        ),
        Row(
            "SimVP",
            SimVP,
            sizes=sizes.TAXIBJ_SIMVP,
            training=released(lr=simvp),
        ),
        Row(
            "PredFormer",
            PredFormer,
            sizes=sizes.PREDFORMER_WEATHER,
            training=sizes.ADAMW_5E4,
            note="Fac-T-S, trained by AdamW with weight decay 0.01, as released for temperature; "
            "its paper's MSE there is 1.100",
        ),
        Row(
            "Ours",
            TAU,
            sizes=sizes.TAXIBJ_TAU,
            training=released(lr=ours, schedule=schedule),
        ),
    )


def panel(dataset: type[Dataset], of: tuple[Row, ...]) -> Panel:
    """The columns on one field."""
    name = dataset.name.removeprefix("weatherbench-")
    return Panel(dataset, COLUMNS, title=name, clip=dataset.clip, rows=of)


T2M = rows(simvp=1e-2, ours=5e-3, schedule="onecycle")


def zoo(
    table: str,
    heading: str,
    dataset: str,
    protocol: str,
    metrics: Sequence[str] = ("RMSE", "MSE", "MAE"),
) -> PublishedTable:
    """Columns of a table of OpenSTL's model zoo, whose models trained for 50 epochs."""
    methods = {"SimVP": "IncepU (SimVPv1)", "Ours": "TAU"}
    methods |= {label: label for label in ("ConvLSTM", "PredRNN")}
    columns = [(metric, dataset, protocol, 50) for metric in metrics]
    return PublishedTable(ZOO, table, heading, columns, methods)


FIELDS = ("t2m", "uv10", "r", "tcc")
SUITE = Suite(
    name="weatherbench",
    title="WeatherBench, 12 to 12 hours",
    panels=(
        panel(WeatherBenchT2M, T2M),
        panel(WeatherBenchUV10, rows(simvp=5e-3, ours=5e-3, schedule="onecycle")),
        panel(WeatherBenchR, rows(simvp=1e-3, ours=5e-3, schedule="cosine")),
        panel(WeatherBenchTCC, rows(simvp=1e-2, ours=5e-4, schedule="onecycle")),
    ),
    rows=T2M,
    training=TRAINING,
    published_elsewhere=tuple(
        zoo(f"Weather {field} 5.625", field, f"WeatherBench {field} 5.625deg", "12->12")
        for field in FIELDS
    ),
)
