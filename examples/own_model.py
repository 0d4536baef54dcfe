"""A model of your own beside the paper's: python -m benchmarks.run --suite own_model.py."""

from dataclasses import replace

from torch import nn

from benchmarks import Row
from benchmarks.suites import ablation
from tau import Predictor, rollout


class Linear(Predictor):
    """Each of the next T frames is a learned mixture of the past T."""

    def __init__(self, clip, bias=True):
        super().__init__(clip)
        self.mix = nn.Linear(clip.past, clip.past, bias)

    def block(self, past):
        """T frames [B, T, C, H, W] -> the next T."""
        return self.mix(past.movedim(1, -1)).movedim(-1, 1)

    def forward(self, past, horizon):
        """Past frames [B, T, C, H, W] -> [B, horizon, C, H, W]."""
        return rollout(self.block, past, horizon)


SUITE = replace(
    ablation.SUITE,
    name="own-model",
    rows=(*ablation.ROWS, Row("Linear", Linear, {"bias": False})),
)
