"""Trees and cars along a street, as balls that a camera passes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.data.synthetic.camera import STREET, View, faded
from benchmarks.data.synthetic.draws import Draws
from benchmarks.data.synthetic.shapes import Balls, paint, soft

TREES, CARS = 16, 16  # places for them on each side of the street
BARK = (0.30, 0.25, 0.20)
TRUNK = torch.tensor([0.2, 0.7, 1.2, 1.7, 2.2])  # heights of a tree's lower balls
CAR = torch.tensor(  # balls: right of the middle, up, ahead of the rear, radius, colour
    [
        *[(x, 0.64, z, 0.40, 0) for x in (-0.56, 0, 0.56) for z in (0.4, 2.0, 3.7)],
        *[(x, 1.10, z, 0.34, 1) for x in (-0.36, 0.36) for z in (0.9, 2.3)],
        *[(x, 0.28, z, 0.27, 2) for x in (-0.68, 0.68) for z in (0.7, 3.3)],
        *[(x, 0.78, 0.1, 0.11, 3) for x in (-0.72, 0.72)],
    ]
)
CAR_COLOURS = ((0, 0, 0), (0.16, 0.18, 0.20), (0.05, 0.05, 0.05), (0.6, 0.08, 0.06))  # 0: its own


class Things(NamedTuple):
    """Balls beside and on the road, in metres: [B, 1 or T, N], colours [B, 1, N, 3]."""

    x: Tensor  # right of the middle of the road
    y: Tensor  # above it
    depth: Tensor  # ahead of the camera, any number of times around the street
    radius: Tensor
    weight: Tensor
    colour: Tensor


def draw_things(canvas: Tensor, view: View, things: Things) -> None:
    """Draw balls as the camera sees them, the nearer before the farther, on `canvas` in place."""
    domain, depth = view.domain, (things.depth % STREET).clamp(min=1)
    zoom = domain.focal / depth
    weight = things.weight * soft(depth - 2.5) * soft(50 - depth, 20.0)
    balls = Balls(
        view.middle + zoom * (things.x - view.aside),
        view.level + zoom * (domain.camera - things.y),
        zoom * things.radius,
        weight,
        (10 / depth) ** 8,
        faded(things.colour, depth, domain),
    )
    paint(canvas, balls, (weight > 0).any(1), sharpness=6)


def trees(draws: Draws, view: View) -> Things:
    """Trees on both verges."""
    domain, each = view.domain, (2, TREES, 1)
    size = draws.uniform("tree size", 0.75, 1.3, *each)
    side = torch.tensor([-1.0, 1.0]).view(2, 1, 1)
    x = side * (domain.road + draws.uniform("tree aside", 1.6, 3.2, *each))
    place = torch.arange(TREES).view(-1, 1) + draws.uniform("tree place", 0.1, 0.9, *each)
    planted = draws.uniform("planted", 0, 1, *each) < domain.planted
    trunk = TRUNK.expand(draws.size, 2, TREES, -1)
    crown = (2, TREES, 5)
    offset = torch.cat([0 * trunk, draws.uniform("crown", -1, 1, *crown)], dim=-1)
    height = torch.cat([trunk, draws.uniform("crown height", 2.7, 4.7, *crown)], dim=-1)
    radius = torch.cat([0 * trunk + 0.2, draws.uniform("crown radius", 0.7, 1.1, *crown)], dim=-1)
    leaves = torch.tensor(domain.foliage) * draws.uniform("leaves", 0.75, 1.25, *crown, 1)
    colour = torch.cat([torch.tensor(BARK).expand_as(leaves), leaves], dim=-2)

    def balls(values: Tensor) -> Tensor:
        return values.expand_as(offset).reshape(draws.size, 1, -1)

    return Things(
        balls(x + size * offset),
        balls(size * height),
        balls(place * (STREET / TREES)) - view.travel,
        balls(size * radius),
        balls(planted.float()),
        colour.view(draws.size, 1, -1, 3),
    )


def cars(draws: Draws, view: View) -> Things:
    """Cars parked on both sides, and in some clips one that drives ahead."""
    domain, frames = view.domain, view.travel.shape[1]
    each, count = (2, CARS), 2 * CARS + 1  # parked; and with the one ahead
    side = torch.tensor([-1.0, 1.0]).view(2, 1)
    parked_x = side * (domain.road + draws.uniform("car aside", -0.2, 0.5, *each))
    place = torch.arange(CARS) + draws.uniform("car place", 0, 0.6, *each)
    parked = draws.uniform("parked", 0, 1, *each) < domain.parked
    ahead = draws.uniform("ahead", 8, 30, 1, 1)
    ahead = ahead + draws.uniform("gain", -0.1, 0.25, 1, 1) * torch.arange(frames).view(-1, 1)
    x = torch.cat([parked_x.flatten(1), domain.road * draws.uniform("lane", 0.4, 0.5, 1)], dim=1)
    depth = (place * (STREET / CARS)).flatten(1).unsqueeze(1) - view.travel
    depth = torch.cat([depth, ahead], dim=2)
    there = torch.cat([parked.flatten(1), draws.uniform("leader", 0, 1, 1) < 0.4], dim=1)
    body = draws.uniform("car light", 0.08, 0.8, count, 1, 1)
    body = body * draws.uniform("car colour", 0.85, 1.1, count, 1, 3)
    kind = CAR[:, 4].long()
    colour = torch.where(kind.unsqueeze(-1) > 0, torch.tensor(CAR_COLOURS)[kind], body)
    return Things(
        (x.unsqueeze(-1) + CAR[:, 0]).flatten(1).unsqueeze(1),
        CAR[:, 1].repeat(count),
        (depth.unsqueeze(-1) + CAR[:, 2]).flatten(2),
        CAR[:, 3].repeat(count),
        0.6 * there.float().repeat_interleave(len(CAR), 1).unsqueeze(1),
        colour.flatten(1, 2).unsqueeze(1),
    )
