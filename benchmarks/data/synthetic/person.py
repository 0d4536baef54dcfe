"""A drawn person, in the place of KTH: walks, jogs, runs, boxes, claps or waves, in grey."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.data.synthetic.draws import Draws, clouds
from benchmarks.data.synthetic.shapes import Balls, in_line, paint, soft

SIDE = 128  # of the square frames


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


def backdrop(draws: Draws) -> Tensor:
    """A textured ground before a textured wall: grey [size, 128, 128]."""
    y = (torch.arange(SIDE) + 0.5).view(-1, 1)
    edge = draws.uniform("edge", 0.55, 0.85, 1, 1) * SIDE
    edge = edge + draws.uniform("slope", -0.04, 0.04, 1, 1) * torch.arange(SIDE)
    wall = draws.uniform("wall", 0.55, 0.85, 1, 1)
    ground = wall * draws.uniform("ground", 0.68, 0.95, 1, 1)
    below = soft(y - edge, draws.uniform("edge width", 1.5, 10.0, 1, 1))
    rough = draws.uniform("rough", 0.015, 0.06, 1, 1)
    wall = wall + rough * clouds(draws, "wall texture", SIDE)
    wall = wall + draws.uniform("light", -0.08, 0.08, 1, 1) * (y / SIDE - 0.5)
    ground = ground + 1.5 * rough * clouds(draws, "ground texture", SIDE)
    grain = 0.012 * draws.noise("grain", 1, SIDE, SIDE)[:, 0]
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


def clips(draws: Draws, frames: int) -> Tensor:
    """A person who walks, jogs, runs, boxes, claps or waves: [size, frames, 1, 128, 128].

    The person casts a shadow on a still scene. The body rests on its lower foot; one who walks is
    the faster, the longer and the more frequent the steps.
    """
    pose = poses(draws, frames)
    height = draws.uniform("height", 62, 98, 1, 1)
    ground = height + (122 - height) * draws.uniform("distance", 0.5, 1, 1, 1)
    begin = draws.uniform("begin", 0, 1, 1, 1)
    begin = SIDE * torch.where(pose.stride > 0, 0.02 + 0.25 * begin, 0.3 + 0.4 * begin)
    forward = begin + 0.85 * height * pose.stride * torch.arange(frames).view(-1, 1)
    facing = 1 - 2 * draws.choice("facing", 2, 1, 1).float()
    centre = torch.where(facing > 0, forward, SIDE - forward)

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

    scene, pixel = backdrop(draws).view(-1, 1, 1, SIDE, SIDE), torch.arange(SIDE) + 0.5
    shadow = torch.exp(-(((pixel - ground) / (0.03 * height)) ** 2)).view(-1, 1, 1, SIDE, 1)
    shadow *= draws.uniform("shadow", 0, 0.45, 1, 1, 1, 1)
    across = torch.exp(-(((pixel - centre) / (0.2 * height)) ** 2)).view(-1, frames, 1, 1, SIDE)
    canvas = torch.addcmul(scene, scene * shadow, across, value=-1)
    for k in range(3):
        paint(canvas, person, layer == k, sharpness=4)
    canvas += 0.008 * draws.noise("noise", frames, 1, SIDE, SIDE)
    return canvas.clamp_(0, 1)
