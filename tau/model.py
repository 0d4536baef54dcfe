"""TAU: Temporal Attention Unit (Tan, Gao, Wu, Xu, Xia, Li, Li; CVPR 2023)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from tau.attention import temporal_blocks
from tau.loss import differential_divergence
from tau.predictor import Clip
from tau.spatial import TranslatingPredictor, check_spatial


class TAU(TranslatingPredictor):
    """Encoder, temporal attention blocks on (T*S) channels, decoder; [B,T,C,H,W] -> next frames.

    The defaults are the paper's Moving MNIST size: 44.66 M parameters, 15.95 G multiply-adds.
    Built as released; the paper does not mention the 1x1 convolutions around the attention, batch
    normalisation, the 8-fold depth-wise MLP, layer scale and stochastic depth, but its parameter
    count and multiply-adds include them.

    spatial_hidden, spatial_depth: width and units of encoder and decoder. temporal_hidden,
    temporal_depth: width and blocks of the translator (its first block works on the T*S channels
    it is given). drop_path: stochastic depth of the last block; the rates rise or fall linearly
    to it from 0.01 in the first block, as released, so 0 is "almost none", not none. alpha: weight
    of the differential divergence, 0 for "w/o DDR" (see `tau.loss` for what it is on the scale of
    Eq. 6). temperature: of its softmax. Raises ValueError for sizes that do not fit the clip.
    """

    def __init__(
        self,
        clip: Clip,
        spatial_hidden: int = 64,
        temporal_hidden: int = 512,
        spatial_depth: int = 4,
        temporal_depth: int = 8,
        mlp_ratio: int = 8,
        drop_path: float = 0.0,
        alpha: float = 0.1,
        temperature: float = 0.1,
    ) -> None:
        check_spatial(clip, spatial_hidden, spatial_depth)
        if not (alpha >= 0 and temperature > 0):
            raise ValueError(
                f"alpha is {alpha}, temperature is {temperature}; expected alpha >= 0 and "
                "temperature > 0"
            )
        folded = clip.past * spatial_hidden
        blocks = temporal_blocks(folded, temporal_hidden, temporal_depth, mlp_ratio, drop_path)
        super().__init__(clip, blocks, spatial_hidden, spatial_depth)
        self.alpha = alpha
        self.temperature = temperature

    def loss(self, past: Tensor, future: Tensor) -> Tensor:
        """Mean squared error plus alpha times the differential divergence (Eq. 6): a scalar."""
        prediction = self(past, future.shape[1])
        error = F.mse_loss(prediction, future)
        if self.alpha == 0:
            return error
        return error + self.alpha * differential_divergence(prediction, future, self.temperature)
