"""The command: python -m benchmarks.predict RUN INPUT --out forecast.gif."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.io
import torch
from numpy.typing import NDArray

from benchmarks import files
from benchmarks.command import end_process, run_command
from benchmarks.data.arrays import open_content
from benchmarks.data.layout import count as count_of
from benchmarks.data.pyav import import_av
from benchmarks.experiment.hardware import choose_device
from benchmarks.experiment.trained import Trained, load
from benchmarks.metrics import mse
from benchmarks.names import choose
from tau.predictor import Clip, check_horizon

FILMS, VALUES = (".gif", ".mp4"), (".npy", ".nc")  # kinds of forecasts
MOST_BYTES = 4 * 2**30  # of a forecast, in memory
OF_INPUT = ("layout", "variable", "size", "gray", "fps", "crop", "pad")  # as of benchmarks.run
COLOUR = "#0072B2"  # of the forecast in a film


class Stretch(NamedTuple):
    """Frames [T, C, H, W] that a model is given, those that follow, and where they are."""

    past: NDArray[Any]
    following: NDArray[Any]
    place: str


def arguments() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.predict",
        description="Forecast the frames that follow, with a trained model.",
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="folder of a finished run, or a bundled model such as ours-hour")
    add("input", metavar="INPUT", type=Path, help="frames: what --data of benchmarks.run takes")
    add(
        "--out",
        metavar="FILE",
        type=Path,
        required=True,
        help="a film, .gif or .mp4, or values, .npy or .nc",
    )
    add("--horizon", metavar="N", type=int, help="frames to predict; default: as trained")
    add("--sequence", metavar="K", type=int, default=0, help="which sequence or recording, from 0")
    add("--start", metavar="T", type=int, help="first frame that the model is given (see below)")
    kinds: dict[str, dict[str, Any]] = {"gray": {"action": "store_true"}, "fps": {"type": float}}
    for option in OF_INPUT:
        add(f"--{option}", help=f"as --{option} of benchmarks.run", **kinds.get(option, {}))
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="default: auto")
    add("--trust-code", action="store_true", help="run the code that the run brought along")
    parser.epilog = (
        "Of a whole sequence, the model is given the first frames; of a recording, the last ones, "
        "so that the forecast goes on where it ends. A film shows the frames that follow as the "
        "truth beside the forecast. Values have the unit of the input."
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 if something is wrong with the arguments or the files."""
    given = arguments().parse_args(argv)
    return run_command(
        lambda: _forecast(given),
        stopped="nothing was written",
        unexpected="this is a fault of the project: please report it",
    )


def _forecast(given: argparse.Namespace) -> int:
    out: Path = given.out
    suffix = choose("--out: kind of file", out.suffix.lower(), (*FILMS, *VALUES))
    if suffix == ".mp4":
        import_av()  # an error now, not after the forecast
    if out.exists() or out.is_symlink():
        raise ValueError(f"{out} exists; move it away, or choose another name")
    trained = load(given.run, choose_device(given.device), trust_code=given.trust_code)
    horizon = trained.clip.future if given.horizon is None else given.horizon
    check_horizon(horizon)
    _check_size(horizon, trained.clip)
    stretch = read(
        given.input,
        trained.clip.past,
        horizon,
        sequence=given.sequence,
        start=given.start,
        **{name: getattr(given, name) for name in OF_INPUT},
    )
    _check_frames(stretch.past, trained.clip, given.input)
    truth = stretch.following
    if not np.isfinite(truth).all():
        raise ValueError(
            f"{given.input}: the frames after {stretch.place} hold NaN or infinite values; choose "
            "another --start, or fill them"
        )
    forecast = trained.predict(stretch.past, horizon)
    if suffix == ".npy":
        files.write(out, lambda file: np.save(file, forecast))
    elif suffix == ".nc":
        _write_netcdf(forecast, f"{stretch.place} of {given.input.name}", out)
    else:
        _film(trained, stretch.past, truth, forecast, out)
    print(f"{out}: {horizon} frames after {stretch.place}{_error(trained, forecast, truth)}")
    return 0


def _check_frames(past: NDArray[Any], clip: Clip, source: Path) -> None:
    """Raise ValueError for frames of another size, with the options that change it."""
    wanted = (clip.channels, clip.height, clip.width)
    if past.shape[1:] != wanted:
        size, gray = f"{clip.height}x{clip.width}", " --gray" * (clip.channels == 1)
        raise ValueError(
            f"{source} has frames of {'x'.join(map(str, past.shape[1:]))}; the model takes "
            f"{'x'.join(map(str, wanted))}: of videos and images, --size {size}{gray} makes such "
            "frames; of others, --crop and --pad"
        )


def _check_size(horizon: int, clip: Clip) -> None:
    """Raise ValueError for a forecast that does not fit memory."""
    size = 4 * clip.channels * clip.height * clip.width
    if horizon * size > MOST_BYTES:
        raise ValueError(
            f"--horizon is {horizon:,}, which makes {horizon * size / 2**30:,.0f} GiB; expected at "
            f"most {MOST_BYTES // size:,} frames of {clip.channels}x{clip.height}x{clip.width}"
        )


def read(
    path: Path,
    past: int,
    future: int,
    *,
    sequence: int = 0,
    start: int | None = None,
    **options: Any,
) -> Stretch:
    """`past` frames of a file or folder, and up to `future` that follow them.

    `sequence` counts sequences, or recordings, from 0; `start` is the first frame, by default 0 of
    a sequence and the last possible one of a recording. `options` are those of `open_content`.
    Raises FileNotFoundError, and ValueError for what cannot be read or is missing.
    """
    content = open_content(path, path.name, **options)
    if len(content.arrays) > 1:
        raise ValueError(f"{path} holds {', '.join(content.arrays)}; choose one with --variable")
    (array,) = content.arrays.values()
    recordings = [recording for of in content.recordings.values() for recording in of]
    what, count = ("recording", len(recordings)) if recordings else ("sequence", len(array))
    if not 0 <= sequence < count:
        raise ValueError(f"--sequence is {sequence}; {path} holds {count}, numbered from 0")
    length = recordings[sequence].length if recordings else array.shape[1]
    latest = length - past
    first = start if start is not None else latest if recordings else 0
    if not 0 <= first <= latest:
        begin = "" if start is None else f"--start is {start}; "
        raise ValueError(
            f"{begin}{what} {sequence} of {path} has {count_of(length, 'frame')}; expected {past} "
            "or more from the start on, which the model is given"
        )
    end = first + past
    stop = min(end + future, length)
    if recordings:
        place = recordings[sequence].start
        frames = array[place + first : place + stop]
    else:
        frames = array[sequence, first:stop]
    where = f"frames {first} to {end - 1} of {what} {sequence}"
    return Stretch(frames[:past], frames[past:], where)


def _scaled(trained: Trained, frames: NDArray[Any]) -> NDArray[np.floating]:
    """Frames of the data's own unit in [0, 1]."""
    low, high = trained.range_of(frames.dtype == np.uint8)
    scaled: NDArray[np.floating] = (frames.astype(float) - low) / (high - low)
    return scaled


def _film(
    trained: Trained,
    past: NDArray[Any],
    truth: NDArray[Any],
    forecast: NDArray[Any],
    out: Path,
) -> None:
    from benchmarks.report.figures import TRUTH, film  # takes seconds to import

    tiles = [("forecast", COLOUR, _scaled(trained, forecast))]
    if len(truth):
        missing = len(forecast) - len(truth)
        shown = np.pad(_scaled(trained, truth), ((0, missing), (0, 0), (0, 0), (0, 0)))
        name = f"{TRUTH}, {len(truth)} frames" if missing else TRUTH
        tiles.insert(0, (name, "black", shown))
    film(_scaled(trained, past), tiles, out)


def _write_netcdf(forecast: NDArray[Any], past: str, out: Path) -> None:
    """Write classic NetCDF: the variable `forecast`, with the axes time, channel, y and x."""
    buffer = BytesIO()
    with scipy.io.netcdf_file(buffer, "w") as file:
        axes = ("time", "channel", "y", "x")
        for axis, length in zip(axes, forecast.shape, strict=True):
            file.createDimension(axis, length)
        stored = "i2" if forecast.dtype == np.uint8 else "f4"  # which has no unsigned integers
        variable = file.createVariable("forecast", stored, axes)
        variable[:] = forecast
        variable.long_name = f"forecast after {past}"
        file.flush()
        content = buffer.getvalue()
    files.write(out, lambda target: target.write(content))


def _error(trained: Trained, forecast: NDArray[Any], truth: NDArray[Any]) -> str:
    if not len(truth):
        return ""
    pair = (_scaled(trained, frames)[None] for frames in (forecast[: len(truth)], truth))
    low, high = trained.value_range
    error = float(mse(*map(torch.from_numpy, pair)).mean()) * (high - low) ** 2
    return f"; mean squared error {error:.4g} over {len(truth)} of them, summed over a frame"


if __name__ == "__main__":
    end_process(main())
