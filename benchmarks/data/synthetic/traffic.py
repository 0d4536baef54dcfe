"""City traffic, in the place of TaxiBJ: vehicles move among the regions of one city."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.data.synthetic.draws import Draws, clouds

REGIONS = 32  # along each side of the city
NEIGHBOURS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # (down, right)
SUBSTEPS = 4  # moves to a neighbouring region in half an hour
WARM_UP = 4  # half-hours before the first frame, in which the commuters spread
PLATOONS = 3
FULL_FLOW = 8.0  # what leaves or enters a region in half an hour where the value is 1


class City(NamedTuple):
    """The map: float32 [32, 32]."""

    roads: Tensor
    jobs: Tensor


@lru_cache(maxsize=1)
def city() -> City:
    """The one city of all clips: ring roads, avenues, districts, and centres where jobs are."""
    draws = Draws(("synthetic traffic", "city"), 1)
    axis = (torch.arange(REGIONS) + 0.5) / (REGIONS / 2) - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    radius, angle = torch.hypot(x - 0.04, 1.08 * (y + 0.02)), torch.atan2(y + 0.02, x - 0.04)

    def ridge(distance: Tensor, width: float) -> Tensor:
        return torch.exp(-((distance / width) ** 2))

    roads = ridge(radius - 0.26, 0.05) + 0.8 * ridge(radius - 0.52, 0.05)
    roads += 0.6 * ridge(radius - 0.82, 0.05)
    turns = torch.tensor([0.1, 0.88, 1.62, 2.4]).view(-1, 1, 1)
    roads += ridge(radius * torch.sin(angle - turns), 0.045).amax(0)
    centres = draws.uniform("centres", -0.65, 0.65, 5, 2, 1, 1)[0]
    jobs = ridge(torch.hypot(x - centres[:, 0], y - centres[:, 1]), 0.16).sum(0)
    jobs += ridge(torch.hypot(x, y), 0.28)
    roads = (0.06 + 0.5 * roads + 0.3 * jobs) * torch.exp(0.8 * clouds(draws, "wealth", REGIONS)[0])
    return City(roads * torch.exp(-((radius / 0.95) ** 4)) + 0.004, jobs)


def rush(hour: Tensor) -> Tensor:
    """The part of the commuters who move in a substep: few at night, many in two rush hours."""

    def peak(middle: float, hours: float) -> Tensor:
        turn = torch.cos((hour - middle) * (math.pi / 12)) - 1
        return torch.exp(turn / (hours * math.pi / 12) ** 2)

    return 0.04 + 0.55 * peak(8, 1.8) + 0.35 * peak(13, 3.5) + 0.6 * peak(18, 2.2)


def neighbours(field: Tensor) -> Tensor:
    """The values of the four neighbours, outside as at the edge: [32, 32] -> [4, 32, 32]."""
    padded = F.pad(field[None], (1, 1, 1, 1), mode="replicate")[0]
    return torch.stack(
        [padded[1 + y : 1 + y + REGIONS, 1 + x : 1 + x + REGIONS] for y, x in NEIGHBOURS]
    )


def arrivals(leaving: Tensor) -> Tensor:
    """What enters regions when [..., 4, 32, 32] goes to the four neighbours: [..., 32, 32]."""
    padded = F.pad(leaving, (1, 1, 1, 1)).unbind(-3)
    total = torch.zeros_like(leaving[..., 0, :, :])
    for (y, x), moved in zip(NEIGHBOURS, padded, strict=True):
        total += moved[..., 1 - y : 1 - y + REGIONS, 1 - x : 1 - x + REGIONS]
    return total


def clips(draws: Draws, frames: int) -> Tensor:
    """Inflow and outflow of the city's regions each half-hour: [size, frames, 2, 32, 32].

    Commuters prefer roads, and go to jobs in the morning and home in the evening; platoons keep
    directions of their own. What leaves a region enters its neighbours, or leaves the city.
    """
    roads, jobs = city()
    start = draws.uniform("hour", 0, 24, 1, 1)
    level = draws.uniform("level", 2.4, 4.0, 1, 1)
    commuters = level * roads * torch.exp(0.5 * clouds(draws, "homes", REGIONS))
    to_roads, to_jobs = neighbours(roads**0.65), neighbours(jobs) - jobs

    place = torch.arange(REGIONS) + 0.5
    centre = draws.uniform("centre", 0.2 * REGIONS, 0.8 * REGIONS, 2, PLATOONS, 1)
    spread = draws.uniform("spread", 1.5, 3.0, 1, PLATOONS, 1)
    rows, columns = torch.exp(-(((place - centre) / spread) ** 2)).unbind(1)
    platoons = rows.unsqueeze(-1) * columns.unsqueeze(-2) * (roads + 0.1).sqrt()
    platoons *= draws.uniform("platoon", 0.8, 2.2, PLATOONS, 1, 1)
    heading = draws.uniform("heading", 0, 2 * math.pi, PLATOONS, 1, 1, 1)
    down, right = torch.tensor(NEIGHBOURS).view(4, 2, 1, 1).unbind(1)
    onward = torch.exp(2.5 * (down * torch.sin(heading) + right * torch.cos(heading)))
    onward = onward * neighbours(roads.sqrt())
    onward *= 0.7 / onward.sum(-3, keepdim=True)

    flows = torch.zeros(draws.size, frames, 2, REGIONS, REGIONS)
    for t in range(-WARM_UP, frames):
        hour = start + t / 2
        tide = 0.4 + 0.9 * torch.cos((hour - 8) * (math.pi / 12))
        routes = to_roads * torch.exp(tide.unsqueeze(1) * to_jobs)
        routes *= (rush(hour) / routes.sum(-3)).unsqueeze(-3)
        for _ in range(SUBSTEPS):
            leaving = commuters.unsqueeze(-3) * routes
            inflow, outflow = arrivals(leaving), leaving.sum(-3)
            commuters = commuters + inflow - outflow
            if t < 0:
                continue
            flows[:, t] += torch.stack([inflow, outflow], 1)
            leaving = platoons.unsqueeze(-3) * onward
            inflow, outflow = arrivals(leaving), leaving.sum(-3)
            platoons = platoons + inflow - outflow
            flows[:, t] += torch.stack([inflow.sum(1), outflow.sum(1)], 1)
    flows /= FULL_FLOW
    noise = draws.noise("noise", frames, 2, REGIONS, REGIONS)
    return (flows + 0.004 * flows.sqrt() * noise).clamp_(0, 1)
