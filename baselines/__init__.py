"""The predictors that TAU is compared with: one paper, one file."""

from baselines.conv import ConvBaseline
from baselines.convlstm import ConvLSTM
from baselines.last_frame import LastFrame
from baselines.predrnn import PredRNN
from baselines.simvp import SimVP

__all__ = ["ConvBaseline", "ConvLSTM", "LastFrame", "PredRNN", "SimVP"]
