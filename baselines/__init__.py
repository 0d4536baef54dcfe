"""The predictors that TAU is compared with: one paper, one file."""

from baselines.conv import ConvBaseline
from baselines.convlstm import ConvLSTM
from baselines.convttlstm import ConvTTLSTM
from baselines.crevnet import CrevNet
from baselines.ddpae import DDPAE
from baselines.e3dlstm import E3DLSTM
from baselines.last_frame import LastFrame
from baselines.lmcmemory import LMCMemory
from baselines.mau import MAU
from baselines.metavp import MetaVP
from baselines.mim import MIM
from baselines.phydnet import PhyDNet
from baselines.predformer import PredFormer
from baselines.prednet import PredNet
from baselines.predrnn import PredRNN
from baselines.predrnnpp import PredRNNpp
from baselines.predrnnv2 import PredRNNv2
from baselines.simvp import SimVP
from baselines.simvpv2 import SimVPv2
from baselines.swinlstm import SwinLSTM
from baselines.wast import WaST

__all__ = [
    "DDPAE",
    "E3DLSTM",
    "MAU",
    "MIM",
    "ConvBaseline",
    "ConvLSTM",
    "ConvTTLSTM",
    "CrevNet",
    "LMCMemory",
    "LastFrame",
    "MetaVP",
    "PhyDNet",
    "PredFormer",
    "PredNet",
    "PredRNN",
    "PredRNNpp",
    "PredRNNv2",
    "SimVP",
    "SimVPv2",
    "SwinLSTM",
    "WaST",
]
