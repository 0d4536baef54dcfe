"""A drive along a street, in the place of KITTI and Caltech Pedestrian."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.data.synthetic.camera import HEIGHT, WIDTH, Domain, look
from benchmarks.data.synthetic.draws import Draws
from benchmarks.data.synthetic.roadside import cars, draw_things, trees
from benchmarks.data.synthetic.street import draw_ground, draw_houses


def clips(draws: Draws, frames: int, domain: Domain) -> Tensor:
    """A camera that drives along a street: RGB [size, frames, 3, 128, 160]."""
    view = look(draws, frames, domain)
    haze, zenith = torch.tensor([domain.haze, domain.zenith]).view(2, 3, 1, 1)
    rise = (view.down * (-domain.focal / domain.horizon)).clamp_(0, 1)[:, :, None, :, None]
    canvas = torch.lerp(haze, zenith, rise).repeat(1, 1, 1, 1, WIDTH)
    draw_ground(canvas, view, draws)
    draw_houses(canvas, view, draws)
    draw_things(canvas, view, trees(draws, view))
    draw_things(canvas, view, cars(draws, view))
    light = draws.uniform("exposure", 0.9, 1.15, 1, 1, 1, 1)
    canvas *= light * draws.uniform("tint", 0.96, 1.04, 1, 3, 1, 1)
    canvas += 0.006 * draws.noise("noise", frames, 3, HEIGHT, WIDTH)
    return canvas.clamp_(0, 1)
