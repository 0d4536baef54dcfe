"""The ground and the houses of a street, as strips that a camera passes along."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchmarks.data.synthetic.camera import CELL, CELLS, View, faded, seen_along
from benchmarks.data.synthetic.draws import Draws
from benchmarks.data.synthetic.shapes import soft

HOUSES = 16  # on each side of the street
FAR = 110.0  # metres
STOREY = 2.9  # metres
KERB = (0.63, 0.62, 0.60)


def draw_ground(canvas: Tensor, view: View, draws: Draws) -> None:
    """Road, marks, kerbs and verges, below the horizon of `canvas`, in place."""
    domain = view.domain
    marked = torch.arange(CELLS) * CELL % domain.dash[1] < domain.dash[0]
    patches = draws.uniform("patches", 0.95, 1.05, CELLS // 4).repeat_interleave(4, 1)
    tufts = draws.uniform("tufts", 0.86, 1.14, CELLS)
    cells = torch.stack([patches, tufts, marked.float().expand_as(tufts)], dim=-1)
    depth = domain.camera / view.down.clamp(min=domain.camera / FAR)
    seen = seen_along(cells, view, depth, depth**2 / (domain.camera * domain.focal))
    asphalt = faded(torch.tensor(domain.asphalt) * seen[..., 0:1], depth, domain)
    verge = faded(torch.tensor(domain.verge) * seen[..., 1:2], depth, domain)
    kerb, mark = faded(KERB, depth, domain), faded(domain.marks, depth, domain)
    colours = torch.stack([asphalt, verge, kerb, mark], 2).transpose(-1, -2).unsqueeze(-1)
    for clip, aside, across, down, far, dash, colour in zip(
        canvas, view.aside, view.across, view.down, depth, seen[..., 2], colours, strict=True
    ):
        top = int((down < 0).sum(1).min())  # the first row that is ground in any frame
        far, dash = far[:, top:].unsqueeze(-1), dash[:, top:, None].unsqueeze(1)
        road, grass, stone, white = colour[..., top:, :].unbind(1)
        x, size = aside + across.unsqueeze(1) * far, far / domain.focal
        wear = torch.cos(x * (2 * math.pi / 1.7)).mul_(0.05 * (0.1 / size).clamp(max=1)).add_(1)
        ground = road * wear.unsqueeze(1)
        away = x.abs_()
        ground.lerp_(grass, soft(away - domain.road, size).unsqueeze(1))
        ground.lerp_(stone, _stripe(away, size, domain.road + 0.1, 0.12))
        ground.lerp_(white, 0.7 * _stripe(away, size, domain.road - 0.5, 0.07))
        ground.lerp_(white, dash * _stripe(away, size, 0.0, 0.09))
        clip[..., top:, :].lerp_(ground, soft(down[:, top:] * domain.focal)[:, None, :, None])


def _stripe(away: Tensor, size: Tensor, middle: float, half: float) -> Tensor:
    """Cover of pixels [T, h, W], `size` metres wide, by a thin stripe: [T, 1, h, W]."""
    inside = soft(half - (away - middle).abs(), size)
    return inside.mul_((2 * half / size).clamp(max=1)).unsqueeze(1)


def draw_houses(canvas: Tensor, view: View, draws: Draws) -> None:
    """Houses with windows on both sides, and hedges between them, on `canvas` in place."""
    domain = view.domain

    def cells(values: Tensor) -> Tensor:  # [B, 2, HOUSES, ...] -> [B, 2, CELLS, ...]
        return values.repeat_interleave(CELLS // HOUSES, 2)

    wall = torch.tensor(domain.walls)[draws.choice("wall", len(domain.walls), 2, HOUSES)]
    wall = wall * draws.uniform("wall light", 0.75, 1.15, 2, HOUSES, 1)
    place = torch.arange(CELLS) % (CELLS // HOUSES)
    built = place >= cells(draws.uniform("garden", 0, 12, 2, HOUSES))
    house = cells(draws.uniform("house height", *domain.houses, 2, HOUSES))
    hedge = cells(draws.uniform("hedge height", 0, 2, 2, HOUSES))
    colour = torch.where(built.unsqueeze(-1), cells(wall), torch.tensor(domain.foliage))
    window = (built & (place % 5 < 3)).float()
    numbers = torch.stack([torch.where(built, house, hedge), window], dim=-1)

    right, slope = view.across > 0, view.across.abs()
    reach = domain.street - torch.where(right, view.aside, -view.aside)
    depth = reach / torch.maximum(slope, reach / FAR)
    extent = depth**2 / (reach * domain.focal)
    sides = torch.cat([colour, numbers], dim=-1).unbind(1)
    on_left, on_right = (seen_along(side, view, depth, extent) for side in sides)
    seen = torch.where(right.unsqueeze(-1), on_right, on_left)
    colours = faded(seen[..., :3], depth, domain).transpose(-1, -2).unsqueeze(-2)
    columns = torch.stack([depth, seen[..., 3], seen[..., 4], slope - reach / FAR], 2).unsqueeze(-2)
    for clip, down, colour, column in zip(canvas, view.down, colours, columns, strict=True):
        far, top, window, nearer = column.unbind(1)
        size = far / domain.focal
        height = domain.camera - down.unsqueeze(-1) * far
        cover = torch.minimum(height + size / 2, top) - (height - size / 2).clamp_(min=0)
        cover.div_(size).clamp_(0, 1).mul_(soft(nearer * domain.focal))
        from_middle = height.sub_(0.25).remainder_(STOREY).sub_(STOREY / 2).abs_()
        light = soft(0.6 - from_middle, size).mul_(-0.6 * window).add_(1)
        clip.lerp_(colour * light.unsqueeze(1), cover.unsqueeze(1))
