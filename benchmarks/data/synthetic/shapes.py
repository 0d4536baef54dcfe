"""Shapes with soft edges, painted on frames: most are unions of balls."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


def soft(inside: Tensor, width: Tensor | float = 1.0) -> Tensor:
    """How much of a pixel is covered, 0..1, `inside` an edge that is `width` wide."""
    return (inside / width).add_(0.5).clamp_(0, 1)


class Balls(NamedTuple):
    """Soft balls whose union is a smooth shape: pixels, float32 [B, T, N] or what expands to it.

    A ball is a Gaussian that falls to half of its weight at its radius. The sum's level 1/2 is the
    outline: a single ball of weight 1 has its radius, and one of weight 0 is not there.
    """

    x: Tensor
    y: Tensor
    radius: Tensor
    weight: Tensor
    front: Tensor  # how much a ball's colour prevails over that of those it overlaps
    colour: Tensor  # [B, T, N, C]


def in_line(spacing: Tensor, radius: Tensor) -> Tensor:
    """The weight of balls `spacing` apart in a line that make it a `radius` thick on each side."""
    return (spacing / radius * math.sqrt(math.log(2) / math.pi)).clamp(max=1)


def paint(frames: Tensor, balls: Balls, chosen: Tensor, sharpness: float) -> None:
    """Draw the union of the `chosen` [B, N] balls on `frames` [B, T, C, H, W], in place.

    A Gaussian is a row times a column, so a picture of many is a product of two matrices; a pixel
    has the mean colour of the nearest balls. Clips are drawn one by one, with their own balls and
    only where these are: that saves most of the work, and fits a cache.
    """
    count, length, channels, height, width = frames.shape
    shape = (count, length, chosen.shape[1])
    numbers = [part.expand(shape) for part in balls[:5]]
    colours = balls.colour.expand(*shape, channels)
    for clip, which, colour, *parts in zip(frames, chosen, colours, *numbers, strict=True):
        if not which.any():
            continue
        x, y, radius, weight, front = (part[:, which] for part in parts)
        left, right = _extent(x, radius, width)
        top, bottom = _extent(y, radius, height)
        if left >= right or top >= bottom:
            continue
        columns, rows = _profile(x, radius, left, right), _profile(y, radius, top, bottom)
        rows *= weight.unsqueeze(-1)
        cover = torch.bmm(rows.mT, columns).sub_(0.5).mul_(sharpness).add_(0.5).clamp_(0, 1)
        columns.square_().square_()  # so that the nearest ball prevails
        rows.square_().square_().mul_(front.unsqueeze(-1))
        total = torch.bmm(rows.mT, columns).add_(1e-20)
        for channel in range(channels):
            part = rows * colour[:, which, channel].unsqueeze(-1)
            mean = torch.bmm(part.mT, columns).div_(total)
            clip[:, channel, top:bottom, left:right].lerp_(mean, cover)


def _extent(centre: Tensor, radius: Tensor, pixels: int) -> tuple[int, int]:
    low, high = (centre - 2 * radius).min(), (centre + 2 * radius).max()
    return max(int(low), 0), min(int(high) + 1, pixels)


def _profile(centre: Tensor, radius: Tensor, start: int, stop: int) -> Tensor:
    """One axis of the balls [T, N, stop - start]: 1 at the centre and 1/2 at the radius."""
    distance = torch.arange(start, stop) + 0.5 - centre.unsqueeze(-1)
    return (distance / radius.unsqueeze(-1)).square_().mul_(-math.log(2)).exp_()
