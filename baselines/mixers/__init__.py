"""The blocks that `MetaVP` translates with, by name: one class for each paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from baselines.mixers.block import Site
from baselines.mixers.grids import VAN, ConvMixer, ConvNeXt, HorNet, MogaNet, PoolFormer
from baselines.mixers.tokens import MLPMixer, Swin, ViT, uniformer

MIXERS: Mapping[str, Callable[[Site], nn.Module]] = {
    "vit": ViT,
    "swin": Swin,
    "uniformer": uniformer,
    "mlp_mixer": MLPMixer,
    "conv_mixer": ConvMixer,
    "poolformer": PoolFormer,
    "convnext": ConvNeXt,
    "van": VAN,
    "hornet": HorNet,
    "moganet": MogaNet,
}
