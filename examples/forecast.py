"""A forecast of a bundled trained model, beside the truth: python forecast.py.

Writes forecast.png: the frames that the model was given, those that followed, and its forecast.
"""

from __future__ import annotations

from matplotlib.figure import Figure

import benchmarks
from benchmarks.data import MovingMNIST, open_dataset

trained = benchmarks.load("ours-hour")
clip = trained.clip
(sequences,) = open_dataset(MovingMNIST).test(1, 1, "cpu")
past, future = clip.split(sequences)
forecast = trained.predict(past, horizon=clip.future)

figure = Figure(figsize=(clip.past, 3.3), layout="constrained")
axes = figure.subplots(3, clip.past)
shown = {"input": past, "truth": future, "forecast": forecast}
for row, (name, frames) in zip(axes, shown.items(), strict=True):
    row[0].set_title(name, loc="left")
    for place, frame in zip(row, frames[0, :, 0], strict=True):
        place.imshow(frame, cmap="gray", vmin=0, vmax=1)
        place.axis("off")
figure.savefig("forecast.png", dpi=100)
print(f"forecast.png: mean squared error {(forecast - future).square().sum((2, 3, 4)).mean():.1f}")
