"""Interactive charts of stored runs, as Vega-Lite specifications beside their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.experiment.store import StoredRun
from benchmarks.report.scores import curve_of
from benchmarks.report.series import (
    by_label,
    costs_and_errors,
    in_equal_time,
    mean_curve,
    style_of,
)

MOST_POINTS = 200  # of a learning curve that are drawn, evenly spaced
# By round of colours.
DASHES = ([1, 0], [5, 3], [2, 2])
SHAPES = ("circle", "square", "triangle-up")
PALE = 0.35  # opacity of rows that trained on fewer sequences
HEIGHT = 320
ERROR = "MSE per frame"


Spec = dict[str, Any]


class Chart(NamedTuple):
    """A chart: Vega-Lite specifications by what their x axis shows, all of the same `values`.

    A page sets the data set "values" and the parameter "shown", the labels of the rows to draw.
    """

    title: str
    description: str  # for readers who do not see it
    specs: Mapping[str, Spec]
    values: Sequence[Mapping[str, Any]]


def charts(
    runs: Sequence[StoredRun], labels: Sequence[str], target: tuple[float, str] | None = None
) -> list[Chart]:
    """The charts of finished runs of one data set; those without anything to show are left out.

    `labels` are all rows of the suite, in order. `target` is a value and a label for the learning
    curves.
    """
    found = (
        _learning_curves(runs, labels, target),
        _cost_and_error(runs, labels),
        _error_per_frame(runs, labels),
    )
    return [chart for chart in found if chart.values]


def _learning_curves(
    runs: Sequence[StoredRun], labels: Sequence[str], target: tuple[float, str] | None
) -> Chart:
    """Validation MSE: mean and range over seeds, of rows that were trained."""
    values: list[Spec] = []
    ends = []
    for label, of in by_label(runs, labels).items():
        if not all(run.trained for run in of):
            continue
        curve = mean_curve([curve_of(run) for run in of])
        if curve.empty:
            continue
        kept = np.unique(np.linspace(0, len(curve) - 1, MOST_POINTS).round().astype(int))
        for epoch, point in curve.iloc[kept].iterrows():
            values.append(
                {"row": label, "epochs": epoch, "sequences": point["sequences"]}
                | {"minutes": point["seconds"] / 60}
                | {name: point[name] for name in ("mean", "min", "max")}
            )
        ends.append(f"{label} {curve['mean'].iloc[-1]:.4g}")
    count: Spec = {"axis": {"format": ",d", "tickMinStep": 1}}
    along = {
        "epochs": _field("epochs", "epoch", **count),
        "sequences": _field("sequences", "training sequences", **count),
        "minutes": _field("minutes", "training time, min"),
    }
    y = _number("mean", f"validation {ERROR}", [value["min"] for value in values])
    marks: list[Spec] = []
    if target is not None:
        at: Spec = {"data": {"values": [{}]}}
        height: Spec = {"y": {"datum": target[0]}}
        marks = [
            {**at, "mark": {"type": "rule", "strokeDash": [2, 3]}, "encoding": height},
            {
                **at,
                "mark": {"type": "text", "align": "left", "dx": 4, "dy": -6, "text": target[1]},
                "encoding": {"x": {"value": 0}, **height},
            },
        ]
    return Chart(
        "Learning curves",
        f"Validation {ERROR} during training; at its end: {', '.join(ends)}.",
        {name: _lines(labels, x, y, *marks) for name, x in along.items()},
        values,
    )


def _cost_and_error(runs: Sequence[StoredRun], labels: Sequence[str]) -> Chart:
    """Test MSE against what a row costs: means over seeds, of rows that were trained.

    In equal time minutes are no cost. Rows that trained on fewer sequences than others are pale.
    """
    values = costs_and_errors(runs, labels)
    titles = {
        "minutes": ("minutes", "training time, min"),
        "FLOPs": ("macs", "FLOPs of inference, G"),
        "parameters": ("parameters", "parameters, M"),
    }
    if in_equal_time(runs):
        del titles["minutes"]
    y = _number("mean", f"test {ERROR}", [value["min"] for value in values])
    opacity: Spec = {"condition": {"test": "datum.compares", "value": 1}, "value": PALE}
    trained = _field("sequences", "training sequences", format=",.4~g")

    def spec(field: str, title: str) -> Spec:
        x = _number(field, title, [value[field] for value in values])
        at = {"x": x, "color": _row(labels), "opacity": opacity}
        span = {"y": {**y, "field": "min"}, "y2": {"field": "max"}}
        shown = {"y": y, "shape": _row(labels, SHAPES), "tooltip": [*_tooltip(x, y), trained]}
        name = {"y": y, "text": {"field": "row"}}
        return _spec(
            labels,
            _layer("rule", {}, **at, **span),
            _layer("point", {"filled": True, "size": 90}, **at, **shown),
            _layer("text", {"align": "left", "dx": 8, "limit": 160}, **at, **name),
        )

    field, title = next(iter(titles.values()))
    listed = ", ".join(f"{v['row']} {v['mean']:.4g} at {v[field]:.3g}" for v in values)
    pale = ", ".join(value["row"] for value in values if not value["compares"])
    return Chart(
        "Cost against error",
        f"Test {ERROR} against {title}: {listed}."
        + f" Pale, as trained on fewer sequences: {pale}." * bool(pale),
        {name: spec(*of) for name, of in titles.items()},
        values,
    )


def _error_per_frame(runs: Sequence[StoredRun], labels: Sequence[str]) -> Chart:
    """Test MSE of each predicted frame: mean over sequences, mean and range over seeds."""
    values: list[Spec] = []
    ends = []
    for label, of in by_label(runs, labels).items():
        errors = np.stack([run.summary.frames["mse"] for run in of]).astype(float)
        if not np.isfinite(errors).all():
            continue
        for frame, scores in enumerate(errors.T, 1):
            values.append(
                {"row": label, "frame": frame, "mean": scores.mean()}
                | {"min": scores.min(), "max": scores.max()}
            )
        ends.append(f"{label} {errors[:, 0].mean():.4g} to {errors[:, -1].mean():.4g}")
    x = _field("frame", "predicted frame", axis={"format": "d", "tickMinStep": 1})
    return Chart(
        "Error per predicted frame",
        f"Test MSE of the first and the last predicted frame: {', '.join(ends)}.",
        {"frame": _lines(labels, x, _field("mean", "test MSE"))},
        values,
    )


# --- Vega-Lite -----------------------------------------------------------------------------------


def _field(name: str, title: str, **more: Any) -> Spec:
    """A quantitative axis."""
    return {"field": name, "type": "quantitative", "title": title, **more}


def _number(name: str, title: str, values: Sequence[float]) -> Spec:
    """A quantitative axis, logarithmic if there are values and all are above 0."""
    is_log = min(values, default=0) > 0
    scale: Spec = {"type": "log", "nice": False} if is_log else {"zero": False}
    axis = {"labelExpr": "format(datum.value, '~g')", "tickCount": 6}  # a logarithm's too
    return _field(name, title, scale={**scale, "padding": 16}, axis=axis)


def _row(labels: Sequence[str], by_round: Sequence[Any] | None = None) -> Spec:
    """The colours of rows, or what their rounds have; without a legend, as the page has one."""
    styles = [style_of(label, labels) for label in labels]
    values = [by_round[number] if by_round else colour for colour, number in styles]
    scale = {"domain": list(labels), "range": values}
    return {"field": "row", "type": "nominal", "scale": scale, "legend": None}


def _tooltip(x: Spec, y: Spec) -> list[Spec]:
    """What is said of a point: its row, x and y, and the range over seeds."""
    numbers = (x, y, _field("min", "lowest seed"), _field("max", "highest seed"))
    told = [_field(of["field"], of["title"], format=",.4~g") for of in numbers]
    return [{"field": "row", "type": "nominal"}, *told]


def _lines(labels: Sequence[str], x: Spec, y: Spec, *more: Spec) -> Spec:
    """A line of each row, with the range over seeds as a band."""
    at = {"x": x, "color": _row(labels)}
    span = {"y": {**y, "field": "min"}, "y2": {"field": "max"}}
    shown = {"y": y, "strokeDash": _row(labels, DASHES), "tooltip": _tooltip(x, y)}
    band = _layer("area", {"opacity": 0.2}, **at, **span)
    line = _layer("line", {"point": {"size": 20}}, **at, **shown)
    return _spec(labels, band, line, *more)


def _layer(kind: str, mark: Spec, **encoding: Any) -> Spec:
    """Marks of the rows that are shown."""
    return {
        "data": {"name": "values"},
        "transform": [{"filter": "indexof(shown, datum.row) >= 0"}],
        "mark": {"type": kind, **mark},
        "encoding": encoding,
    }


def _spec(labels: Sequence[str], *layers: Spec) -> Spec:
    """Layers as one specification, as wide as its place."""
    return {
        "width": "container",
        "height": HEIGHT,
        "params": [{"name": "shown", "value": list(labels)}],
        "layer": list(layers),
    }
