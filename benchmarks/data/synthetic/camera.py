"""Where the camera of a drive is, and what its pixels see of a street that repeats."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.data.synthetic.draws import Draws

HEIGHT, WIDTH = 128, 160  # pixels
STREET = 240.0  # metres after which a street repeats
CELL = 0.5  # metres along the street that look the same
CELLS = round(STREET / CELL)

Colour = tuple[float, float, float]  # RGB in [0, 1]


class Domain(NamedTuple):
    """A country as its camera sees it: metres, frames of 0.1 s, pixels, RGB in [0, 1]."""

    camera: float  # height above the road
    focal: float
    horizon: float
    speed: tuple[float, float]  # a frame
    road: float  # half of its width; it has a lane each way
    street: float  # from the middle to the houses
    houses: tuple[float, float]  # their heights
    dash: tuple[float, float]  # metres that are marked, of so many (a divisor of STREET)
    planted: float  # the fraction of places with a tree
    parked: float  # the fraction of places with a car
    zenith: Colour
    haze: Colour
    asphalt: Colour
    marks: Colour
    verge: Colour
    foliage: Colour
    walls: tuple[Colour, ...]


SUBURB = Domain(  # as KITTI: a narrow, green street, a camera on the roof
    camera=1.65,
    focal=165,
    horizon=58,
    speed=(0.5, 1.1),
    road=4.2,
    street=9.0,
    houses=(4.5, 8.5),
    dash=(3.0, 8.0),
    planted=0.6,
    parked=0.5,
    zenith=(0.62, 0.74, 0.90),
    haze=(0.90, 0.93, 0.95),
    asphalt=(0.40, 0.40, 0.42),
    marks=(0.86, 0.86, 0.84),
    verge=(0.36, 0.45, 0.26),
    foliage=(0.24, 0.36, 0.16),
    walls=((0.72, 0.66, 0.56), (0.62, 0.45, 0.36), (0.78, 0.76, 0.72), (0.55, 0.52, 0.48)),
)
BOULEVARD = Domain(  # as Caltech Pedestrian: a wide, dry street, a camera behind the windscreen
    camera=1.25,
    focal=140,
    horizon=66,
    speed=(0.8, 1.6),
    road=6.5,
    street=14.0,
    houses=(3.5, 14.0),
    dash=(4.0, 12.0),
    planted=0.45,
    parked=0.4,
    zenith=(0.40, 0.58, 0.86),
    haze=(0.85, 0.83, 0.76),
    asphalt=(0.52, 0.49, 0.46),
    marks=(0.92, 0.76, 0.30),
    verge=(0.60, 0.55, 0.44),
    foliage=(0.30, 0.36, 0.20),
    walls=((0.80, 0.70, 0.52), (0.70, 0.56, 0.44), (0.86, 0.82, 0.74), (0.50, 0.50, 0.55)),
)


class View(NamedTuple):
    """Where the camera is, in metres, and where the rays of its pixels go."""

    domain: Domain
    travel: Tensor  # [B, T, 1] along the street
    aside: Tensor  # [B, 1, 1] right of the middle of the road
    middle: Tensor  # [B, T, 1] column of the direction of travel
    level: Tensor  # [B, T, 1] row of the horizon
    across: Tensor  # [B, T, 160] slope to the right of a column's rays
    down: Tensor  # [B, T, 128] slope of a row's rays


def look(draws: Draws, frames: int, domain: Domain) -> View:
    """A steady drive in the right lane with a little yaw and pitch."""
    time = torch.arange(frames).view(-1, 1)

    def sway(name: str, pixels: float) -> Tensor:
        turn = draws.uniform(f"{name} phase", 0, 2 * math.pi, 1, 1)
        pace = draws.uniform(f"{name} pace", 0.05, 0.25, 1, 1)
        return draws.uniform(name, 0.2 * pixels, pixels, 1, 1) * torch.sin(turn + pace * time)

    speed = draws.uniform("speed", *domain.speed, 1, 1)
    middle = WIDTH / 2 + draws.uniform("aim", -8, 8, 1, 1) + sway("yaw", 6.0)
    level = domain.horizon + draws.uniform("tilt", -3, 3, 1, 1) + sway("pitch", 0.8)
    return View(
        domain,
        draws.uniform("start", 0, STREET, 1, 1) + speed * time,
        domain.road * draws.uniform("aside", 0.35, 0.55, 1, 1),
        middle,
        level,
        (torch.arange(WIDTH) + 0.5 - middle) / domain.focal,
        (torch.arange(HEIGHT) + 0.5 - level) / domain.focal,
    )


def seen_along(cells: Tensor, view: View, depth: Tensor, extent: Tensor) -> Tensor:
    """What pixels see of a street [B, CELLS, C]: means of its cells, [B, T, N, C].

    A pixel [B, T, N] sees `extent` metres of the street `depth` metres ahead. Means over these are
    exact, so that nothing flickers far away.
    """
    cells = cells.double()  # a difference of long sums would lose the short stretches in float32
    total = F.pad(cells.cumsum(1), (0, 0, 1, 0))
    middle = (view.travel + depth).flatten(1).double()
    half = extent.flatten(1).double() / 2

    def integral(metres: Tensor) -> Tensor:
        place = metres / CELL
        turns = torch.floor(place / CELLS)
        index = (place - turns * CELLS).long().clamp(max=CELLS - 1)
        rest = (place - turns * CELLS - index).unsqueeze(-1)
        index = index.unsqueeze(-1).expand(-1, -1, cells.shape[2])
        begun = total.gather(1, index) + rest * cells.gather(1, index)
        return turns.unsqueeze(-1) * total[:, -1:] + begun

    sums = integral(middle + half) - integral(middle - half)
    return (sums * (CELL / 2 / half).unsqueeze(-1)).float().view(*depth.shape, -1)


def faded(colour: Tensor | Colour, depth: Tensor, domain: Domain) -> Tensor:
    """A colour [..., 3] at a distance [...], where it takes on that of the haze."""
    clear = torch.exp(-depth / 150).unsqueeze(-1)
    return torch.lerp(torch.tensor(domain.haze), torch.as_tensor(colour), clear)
