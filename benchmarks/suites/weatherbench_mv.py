"""WeatherBench at 5.625 degrees as in OpenSTL: four variables at three levels, 4 frames to 4.

Six-hourly, as the published protocol is described; `--dataset weatherbench-mv-released` takes the
frames of the released loader, which are 36 hours apart. Learning rates of ConvLSTM and PredRNN are
those released for temperature alone.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.data import WeatherBenchMV, WeatherBenchMVReleased
from benchmarks.data.weather_files import LATITUDES
from benchmarks.experiment.spec import Panel, Suite
from benchmarks.suites import weatherbench
from benchmarks.suites.weatherbench import zoo
from benchmarks.totals import ROOT_MSE, latitude_weighted_rmse, of_channels

VARIABLES = WeatherBenchMV.variables
LEVELS = len(VARIABLES[0].levels)
COLUMNS = tuple(
    of_channels(
        metric,
        variable.name,
        range(LEVELS * place, LEVELS * (place + 1)),
        variable.high - variable.low,
        variable.unit,
    )
    for place, variable in enumerate(VARIABLES)
    for metric in (ROOT_MSE, latitude_weighted_rmse(LATITUDES))
)
DATASET = "WeatherBench MV (r,t,u,v at 150,500,850) 5.625deg"  # in published.csv

SUITE: Suite = replace(
    weatherbench.SUITE,
    name="weatherbench_mv",
    title="WeatherBench, four variables at 3 levels",
    panels=(
        Panel(
            WeatherBenchMV,
            COLUMNS,
            clip=WeatherBenchMV.clip,
            versions=(WeatherBenchMVReleased,),
        ),
    ),
    rows=weatherbench.rows(simvp=5e-3, ours=5e-3, schedule="cosine", steps=50 * 3_376),
    published_elsewhere=tuple(
        zoo(f"Weather MV {variable.name}", variable.name, DATASET, "4->4", ("RMSE",))
        for variable in VARIABLES
    ),
)
