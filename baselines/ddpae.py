"""Learning to Decompose and Disentangle Representations for Video Prediction.

Hsieh, Liu, Huang, Fei-Fei, Niebles; NeurIPS 2018.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tau.predictor import Clip, Predictor, check_horizon, check_unit_range

SCALE_MEAN, SCALE_STD, SCALE_REACH = 2.0, 0.2, 1.0  # prior of a scale; how far it may go
CHANGE_STD = 0.1  # prior of a pose's change from frame to frame, around 0
PIXEL_STD = 0.3  # of the likelihood


class Gaussian(NamedTuple):
    """Independent normal variables, in units of their prior: it is N(0, 1) for each."""

    mean: Tensor
    log_std: Tensor

    def draw(self) -> Tensor:
        """One sample, through which gradients flow."""
        return self.mean + self.log_std.exp() * torch.randn_like(self.mean)

    def divergence(self) -> Tensor:
        """KL divergence from the prior, summed over all but the first dimension: [B]."""
        each = (self.mean.square() + torch.expm1(2 * self.log_std)) / 2 - self.log_std
        return each.flatten(1).sum(1)


class Encoder(nn.Module):
    """DCGAN's: images [N, C, *size] -> codes [N, code]; no biases.

    4 x 4 convolutions halve the sides, and double the width from the second on, until the shorter
    side is less than 8; each but the first has batch normalisation. One convolution of what is left
    follows.
    """

    def __init__(self, channels: int, width: int, code: int, size: tuple[int, int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        while min(size) >= 8:
            layers.append(nn.Conv2d(channels, width, 4, stride=2, padding=1, bias=False))
            if len(layers) > 1:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.LeakyReLU(0.2))
            channels, width, size = width, 2 * width, (size[0] // 2, size[1] // 2)
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, code, size, bias=False))

    def forward(self, images: Tensor) -> Tensor:
        """Encode."""
        codes: Tensor = self.layers(images)
        return codes.flatten(1)


class Decoder(nn.Module):
    """DCGAN's: contents [N, D] -> images [N, C, size, size] in (0, 1); the encoder backwards.

    All but the last convolution have batch normalisation and ReLU. size is a power of two, 8 or
    more.
    """

    def __init__(self, content: int, width: int, channels: int, size: int) -> None:
        super().__init__()
        doublings = size.bit_length() - 3  # from 4 x 4
        widths = [width * 2**i for i in reversed(range(doublings))]
        layers: list[nn.Module] = []
        for n_in, n in pairwise((content, *widths)):
            stride, padding = (2, 1) if layers else (1, 0)
            layers += [
                nn.ConvTranspose2d(n_in, n, 4, stride, padding, bias=False),
                *(nn.BatchNorm2d(n), nn.ReLU()),
            ]
        last = nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1, bias=False)
        self.layers = nn.Sequential(*layers, last, nn.Sigmoid())

    def forward(self, content: Tensor) -> Tensor:
        """Decode."""
        images: Tensor = self.layers(content[..., None, None])
        return images


class PoseNetwork(nn.Module):
    """Poses of the components: past [B, T, C, H, W] -> initial pose [B, K, 3] and its changes.

    For one component after the other, an LSTM reads the past: the code of each frame, beside the
    previous component's output there. Another goes on for `horizon` frames from its own last
    output, again beside the previous component's. Their outputs give the changes
    [B, K, T + horizon, 3], one for each frame, the first included. A third LSTM reads the first
    frame's outputs, from component to component, and gives the initial poses.
    """

    def __init__(self, clip: Clip, code: int, hidden: int, width: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.encoder = Encoder(clip.channels, width, code, (clip.height, clip.width))
        self.past_lstm = nn.LSTM(code + hidden, hidden, batch_first=True)
        self.future_lstm = nn.LSTMCell(2 * hidden, hidden)
        self.initial_lstm = nn.LSTM(hidden, hidden, batch_first=True)
        self.initial_head = nn.Linear(hidden, 6)
        self.change_head = nn.Linear(hidden, 6)

    def forward(self, past: Tensor, horizon: int, components: int) -> tuple[Gaussian, Gaussian]:
        """Posterior of the initial pose and of the changes, both (scale, x, y)."""
        batch, time = past.shape[:2]
        codes = self.encoder(past.flatten(0, 1)).unflatten(0, (batch, time))
        previous = codes.new_zeros(batch, time + horizon, self.hidden)
        outputs = []
        for _ in range(components):
            seen, (h, c) = self.past_lstm(torch.cat([codes, previous[:, :time]], dim=2))
            h, c, ahead = h[0], c[0], []
            for other in previous[:, time:].unbind(1):
                h, c = self.future_lstm(torch.cat([h, other], dim=1), (h, c))
                ahead.append(h)
            previous = torch.cat([seen, torch.stack(ahead, dim=1)], dim=1)
            outputs.append(previous)
        output = torch.stack(outputs, dim=1)
        initial, _ = self.initial_lstm(output[:, :, 0])
        dtype = past.dtype  # autocast lowers it
        return (
            Gaussian(*self.initial_head(initial).to(dtype).chunk(2, dim=-1)),
            Gaussian(*self.change_head(output).to(dtype).chunk(2, dim=-1)),
        )


class ContentNetwork(nn.Module):
    """Content of an object: its views in all frames of the past [N, T, C, S, S] -> [N, D].

    An LSTM over the views' codes; its last output gives the posterior.
    """

    def __init__(self, channels: int, size: int, content: int, hidden: int, width: int) -> None:
        super().__init__()
        self.encoder = Encoder(channels, width, content, (size, size))
        self.lstm = nn.LSTM(content, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 2 * content)

    def forward(self, views: Tensor) -> Gaussian:
        """Posterior of the content."""
        codes = self.encoder(views.flatten(0, 1)).unflatten(0, views.shape[:2])
        last = self.lstm(codes)[0][:, -1]
        return Gaussian(*self.head(last).to(views.dtype).chunk(2, dim=-1))


class DDPAE(Predictor):
    """Frames are sums of K objects, each with one content and a pose (scale, x, y) for each frame.

    Inferred from the past: the objects' initial pose, the pose's change with each frame (also in
    the future, for which an LSTM is rolled on) and, from the objects cut out of the past by these
    poses, their contents. A content is decoded to an image, which a spatial transformer places in
    each frame; the sum is cut at 1. Inference is variational: in training latents are drawn from
    their posteriors, in eval mode they are the means, so that predictions are deterministic.

    Priors: scale N(2, 0.2), x and y N(0, 1) before their tanh, changes N(0, 0.1), content N(0, 1);
    likelihood of a pixel N(., 0.3). A scale s stays within 1 of 2; x, y = tanh(.)(s - 0.5), which
    keeps an object's centre in the frame. What the paper leaves open of the pose network and of the
    transformer is as in the authors' code. One thing differs on purpose: a posterior is predicted
    in units of its prior and by the logarithm of its width, where that code has absolute values and
    a softplus; KL terms then need no logarithm, and an untrained network starts near the prior.

    The defaults are the published networks for 64 x 64 frames: 706,364 parameters (pose 488,044,
    content LSTM 66,304, object encoder 76,000, decoder 76,016), 0.032 G MACs for 10 -> 10
    frames. Frames lie in [0, 1].

    components: K. object_size: side of an object's image, a power of two from 8; 32 is half a
    frame, its size at the prior's scale of 2. content: its length. hidden: width of the LSTMs.
    code: of the code of a frame. width: first width of encoders and decoder. Raises ValueError for
    options below 1, another object_size, or frames beyond [0, 1].
    """

    capturable = True

    def __init__(
        self,
        clip: Clip,
        components: int = 2,
        object_size: int = 32,
        content: int = 128,
        hidden: int = 64,
        code: int = 256,
        width: int = 8,
    ) -> None:
        sizes = {"components": components, "content": content, "hidden": hidden}
        for name, value in {**sizes, "code": code, "width": width}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")
        if object_size < 8 or object_size & (object_size - 1):
            raise ValueError(f"object_size is {object_size}; expected a power of two, 8 or more")
        check_unit_range(clip)
        super().__init__(clip)
        self.components = components
        self.object_size = (object_size, object_size)
        self.pose = PoseNetwork(clip, code, hidden, width)
        self.content = ContentNetwork(clip.channels, object_size, content, hidden, width)
        self.decoder = Decoder(content, width, clip.channels, object_size)
        self.apply(initialise)

    def forward(self, past: Tensor, horizon: int) -> Tensor:
        """Predict `horizon` frames after `past` [B, T, C, H, W]; T is free."""
        check_horizon(horizon)
        objects, poses, _ = self.infer(past, horizon)
        return self.compose(objects, poses[:, :, -horizon:])

    def loss(self, past: Tensor, future: Tensor) -> Tensor:
        """Negative evidence lower bound of all frames in nats a pixel, up to a constant: a scalar.

        In training at one draw of the latents, in eval mode at their means.
        """
        objects, poses, divergence = self.infer(past, future.shape[1])
        frames = torch.cat([past, future], dim=1)
        error = F.mse_loss(self.compose(objects, poses), frames)
        return error / (2 * PIXEL_STD**2) + divergence.mean() / frames[0].numel()

    def infer(self, past: Tensor, horizon: int) -> tuple[Tensor, Tensor, Tensor]:
        """What makes frames 1..T+horizon, from the T of `past`.

        Objects [B, K, C, S, S], poses [B, K, T + horizon, 3] and the latents' KL divergence [B].
        """
        initial, changes = self.pose(past, horizon, self.components)
        poses = constrain(self.latent(initial), self.latent(changes))
        views = self.cut_out(past, poses[:, :, : past.shape[1]])
        content = self.content(views.flatten(0, 1))
        images = self.decoder(self.latent(content)).to(past.dtype)
        divergence = initial.divergence() + changes.divergence()
        shape = (len(past), self.components)
        divergence = divergence + content.divergence().unflatten(0, shape).sum(1)
        return images.unflatten(0, shape), poses, divergence

    def latent(self, posterior: Gaussian) -> Tensor:
        """A draw in training, the mean in eval mode."""
        return posterior.draw() if self.training else posterior.mean

    def cut_out(self, frames: Tensor, poses: Tensor) -> Tensor:
        """The objects at their poses, at a size of their own: -> [B, K, T, C, S, S]."""
        poses = poses.transpose(1, 2).flatten(0, 1)
        scale, shift = poses[..., :1], poses[..., 1:]
        seen = transform(frames.flatten(0, 1), 1 / scale, -shift / scale, self.object_size)
        views: Tensor = seen.unflatten(0, frames.shape[:2])
        return views.transpose(1, 2)

    def compose(self, objects: Tensor, poses: Tensor) -> Tensor:
        """Objects [B, K, C, S, S] at poses [B, K, T, 3] -> frames [B, T, C, H, W]: min(1, sum)."""
        poses = poses.flatten(0, 1)
        size = (self.clip.height, self.clip.width)
        seen = transform(objects.flatten(0, 1), poses[..., :1], poses[..., 1:], size)
        placed: Tensor = seen.unflatten(0, objects.shape[:2])
        return placed.sum(1).clamp(max=1)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the convolutional networks in place, with the arguments of torch.compile.

        The LSTMs have kernels of their own. State dict keys do not change.
        """
        for network in (self.pose.encoder, self.content.encoder, self.decoder):
            network.compile(*args, **kwargs)


def constrain(initial: Tensor, changes: Tensor) -> Tensor:
    """Poses of all frames, initial [B, K, 3] and changes [B, K, T, 3] -> [B, K, T, 3].

    Changes add up, frame 1's included; scale and shift are limited in each frame.
    """
    moved = CHANGE_STD * changes.cumsum(dim=2)
    scale = SCALE_MEAN + SCALE_STD * initial[:, :, None, :1] + moved[..., :1]
    scale = scale.clamp(SCALE_MEAN - SCALE_REACH, SCALE_MEAN + SCALE_REACH)
    shift = torch.tanh(initial[:, :, None, 1:] + moved[..., 1:]) * (scale - 0.5)
    return torch.cat([scale, shift], dim=-1)


def transform(images: Tensor, scale: Tensor, shift: Tensor, size: tuple[int, int]) -> Tensor:
    """M views of each image: pixel p of a view shows the image at scale p + shift, 0 outside it.

    images [N, C, H', W'], scale [N, M, 1], shift [N, M, 2] (x, y) -> [N, M, C, H, W] for size
    (H, W). Coordinates are -1 and 1 at the centres of the outermost pixels (`align_corners`).
    """
    y, x = (
        torch.arange(1 - n, n, 2, dtype=scale.dtype, device=scale.device) / max(n - 1, 1)
        for n in size
    )
    x = scale * x + shift[..., :1]
    y = scale * y + shift[..., 1:]
    grid = torch.stack(torch.broadcast_tensors(x[..., None, :], y[..., None]), dim=-1)
    # the views of an image, one below the other
    sampled = F.grid_sample(images, grid.flatten(1, 2), align_corners=True)
    views: Tensor = sampled.unflatten(2, (scale.shape[1], size[0]))
    return views.transpose(1, 2)


def initialise(module: nn.Module) -> None:
    """DCGAN's: weights N(0, 0.02), batch normalisation N(1, 0.02), biases 0; LSTMs as they are."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d)):
        mean = 1.0 if isinstance(module, nn.BatchNorm2d) else 0.0
        nn.init.normal_(module.weight, mean, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
