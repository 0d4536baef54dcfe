"""DDPAE: its networks' sizes, poses and the spatial transformer, the evidence lower bound."""

from __future__ import annotations

import math

import pytest
import torch
from compiled import Backend
from model_rows import random_frames
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from baselines.ddpae import DDPAE, Decoder, Encoder, Gaussian, constrain, transform
from benchmarks.experiment import cost
from tau.predictor import Clip

TINY = Clip(past=3, future=2, channels=2, height=16, width=16)


def tiny(**options: object) -> DDPAE:
    torch.manual_seed(0)
    small = {"object_size": 8, "content": 6, "hidden": 5, "code": 7, "width": 2}
    return DDPAE(TINY, **{**small, **options})


# Published sizes


def test_published_parameters() -> None:
    model = cost.build_on_meta(DDPAE, Clip(), {})
    content_lstm = cost.parameters(model.content.lstm) + cost.parameters(model.content.head)
    assert cost.parameters(model.pose) == 488_044
    assert content_lstm == 66_304
    assert cost.parameters(model.content.encoder) == 76_000
    assert cost.parameters(model.decoder) == 76_016
    assert cost.parameters(model) == 706_364


def test_multiply_adds_equal_the_closed_form() -> None:
    components, past, horizon = 2, 10, 10

    def lstm(n_in: int, n: int) -> int:
        return 4 * n * (n_in + n)

    def codes(side: int, code: int) -> int:
        total, n_in, n = 0, 1, 8
        while side > 4:
            side //= 2
            total += side**2 * (16 * n_in * n + (2 * n if n_in > 1 else 0))  # eval-mode norm
            n_in, n = n, 2 * n
        return total + 16 * n_in * code

    changes = past + horizon
    pose = past * codes(64, 256) + components * (
        past * lstm(320, 64) + horizon * lstm(128, 64) + lstm(64, 64) + 64 * 6 * (1 + changes)
    )
    content = components * (past * (codes(32, 128) + lstm(128, 64)) + 64 * 256)
    decoder = 16 * (128 * 32 + 16 * 32 * 16 + 64 * 16 * 8 + 256 * 8 * 1)
    decoder += 2 * (16 * 32 + 64 * 16 + 256 * 8)  # norms
    sampled = 4 * (past * 32**2 + horizon * 64**2)
    expected = pose + content + components * (decoder + sampled)
    model = cost.build_on_meta(DDPAE, Clip(), {})
    assert cost.macs(model, Clip()) == expected
    assert round(expected / 1e9, 3) == 0.032


@pytest.mark.parametrize("size", [(8, 8), (8, 16), (16, 40), (64, 64), (128, 160), (12, 9)])
def test_an_encoder_takes_any_size(size: tuple[int, int]) -> None:
    with torch.device("meta"):
        assert Encoder(3, 4, 10, size)(torch.empty(2, 3, *size)).shape == (2, 10)


@pytest.mark.parametrize("size", [8, 16, 64])
def test_a_decoder_makes_images_between_0_and_1(size: int) -> None:
    torch.manual_seed(0)
    images = Decoder(5, 2, 3, size)(100 * torch.randn(2, 5))
    assert images.shape == (2, 3, size, size)
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.std() > 0.01


def test_the_decoder_is_dcgans_with_relu() -> None:
    torch.manual_seed(0)
    decoder = Decoder(5, 2, 3, 16).double().eval()
    first, second, last = (m for m in decoder.modules() if isinstance(m, torch.nn.ConvTranspose2d))
    norms = [m for m in decoder.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    content = torch.randn(2, 5, dtype=torch.float64)
    x = content[:, :, None, None]
    for conv, norm, (stride, padding) in zip((first, second), norms, [(1, 0), (2, 1)], strict=True):
        x = F.conv_transpose2d(x, conv.weight, None, stride, padding)
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        x = (x - norm.running_mean[:, None, None]) * scale[:, None, None]
        x = (x + norm.bias[:, None, None]).clamp(min=0)
    expected = torch.sigmoid(F.conv_transpose2d(x, last.weight, None, 2, 1))
    torch.testing.assert_close(decoder(content), expected)


# Poses and places


def test_a_scale_shrinks_and_a_shift_moves_against_itself() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 2, 8, 8)
    scale = torch.full((1, 3, 1), 15 / 7)  # a pixel to a pixel: 15 steps across, 7 in the image
    shift = torch.tensor([[[0.0, 0.0], [4.0, 0.0], [-2.0, -4.0]]]) * 2 / 7  # x, y in pixels
    views = transform(image, scale, shift, (16, 16))
    for view, (row, column) in zip(views[0], [(4, 4), (4, 0), (8, 6)], strict=True):
        expected = torch.zeros(2, 16, 16)
        expected[:, row : row + 8, column : column + 8] = image[0]
        torch.testing.assert_close(view, expected)


@pytest.mark.filterwarnings("ignore:Since version 1.3.0, affine_grid")  # of a single row
@pytest.mark.parametrize("size", [(16, 16), (9, 20), (1, 5)])
def test_the_transformer_is_the_affine_grid_of_the_release(size: tuple[int, int]) -> None:
    """That of PyTorch 0.3: corners are the centres of the corner pixels."""
    torch.manual_seed(0)
    images = torch.rand(2, 3, 8, 6)
    scale, shift = 1 + 2 * torch.rand(2, 4, 1), torch.randn(2, 4, 2)
    found = transform(images, scale, shift, size)
    assert found.shape == (2, 4, 3, *size)
    for m in range(4):
        theta = torch.zeros(2, 2, 3)
        theta[:, 0, 0] = theta[:, 1, 1] = scale[:, m, 0]
        theta[:, :, 2] = shift[:, m]
        grid = F.affine_grid(theta, [2, 3, *size], align_corners=True)
        expected = F.grid_sample(images, grid, align_corners=True)
        torch.testing.assert_close(found[:, m], expected)


def test_what_is_composed_can_be_cut_out_again() -> None:
    model = tiny()
    torch.manual_seed(0)
    slope = torch.rand(2, 1, 2, 2, 1, 1)  # a plane, which interpolation keeps
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    objects = (slope[:, :, :, 0] * x + slope[:, :, :, 1] * y) / 16
    poses = torch.tensor([[15.0, 4, -8], [15.0, -6, 2], [11.2, 0, 0.7], [7.0, 0, 0]]) / 7
    poses = poses.expand(2, 1, 4, 3)  # the first two place a pixel on a pixel
    found = model.cut_out(model.compose(objects, poses), poses)
    assert found.shape == (2, 1, 4, 2, 8, 8)
    expected = objects[:, :, None].expand_as(found)
    torch.testing.assert_close(found[:, :, :2], expected[:, :, :2])
    torch.testing.assert_close(found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


def test_frames_are_sums_of_objects_cut_at_1() -> None:
    model = tiny()
    torch.manual_seed(0)
    objects = torch.rand(2, 2, 2, 8, 8)
    poses = torch.tensor([[[2.0, 0, 0], [2.0, 0.5, 0]], [[2.0, 0, 0], [1.5, 0, 0.25]]])
    poses = poses.expand(2, 2, 2, 3)
    each = [model.compose(objects[:, k : k + 1], poses[:, k : k + 1]) for k in (0, 1)]
    total = each[0] + each[1]
    assert total.max() > 1
    torch.testing.assert_close(model.compose(objects, poses), total.clamp(max=1))


def test_poses_add_up_changes_and_are_limited() -> None:
    initial = torch.tensor([1.0, -0.5, 2.0]).expand(1, 1, 3)
    changes = torch.tensor([[0.5, 1.0, 0.0], [-1.0, 2.0, 3.0], [40.0, 9.0, -70.0]])
    poses = constrain(initial, changes[None, None])[0, 0]
    free = [(2.25, -0.4, 2.0), (2.15, -0.2, 2.3), (6.15, 0.7, -4.7)]  # frame 1 has its change too
    for pose, (scale, x, y) in zip(poses.tolist(), free, strict=True):
        limited = min(scale, 3.0)
        reach = limited - 0.5
        expected = [limited, math.tanh(x) * reach, math.tanh(y) * reach]
        assert pose == pytest.approx(expected, abs=1e-6)
    far = constrain(-100 * torch.ones(1, 1, 3), torch.zeros(1, 1, 1, 3))
    torch.testing.assert_close(far, torch.tensor([[[[1.0, -0.5, -0.5]]]]))


def test_a_component_depends_on_those_before_it() -> None:
    model = tiny().eval()
    past, _ = random_frames(TINY)
    with torch.no_grad():
        one, two, three = (model.pose(past, 4, k) for k in (1, 2, 3))
    for fewer, more in ((one, two), (two, three)):
        for short, long in zip((*fewer[0], *fewer[1]), (*more[0], *more[1]), strict=True):
            torch.testing.assert_close(long[:, : short.shape[1]], short)
    means = three[1].mean
    assert means.shape == (2, 3, 3 + 4, 3)
    for k, other in ((0, 1), (1, 2)):
        assert (means[:, k] - means[:, other]).abs().amax((0, 2)).min() > 1e-7  # at every frame


def test_poses_follow_from_the_frames_up_to_theirs() -> None:
    model = tiny().eval()
    past = random_frames(TINY)[0].requires_grad_()
    initial, changes = model.pose(past, 2, 2)

    def frames_seen(value: Tensor) -> list[bool]:
        gradient = torch.autograd.grad(value.sum(), past, retain_graph=True)[0]
        return (gradient.abs().amax((0, 2, 3, 4)) > 0).tolist()

    assert frames_seen(initial.mean) == [True, False, False]
    for t in range(5):
        assert frames_seen(changes.mean[:, :, t]) == [True, t > 0, t > 1]


@torch.no_grad()
def test_initial_poses_follow_from_the_first_frame_component_by_component() -> None:
    model = tiny().eval()
    past, _ = random_frames(TINY)
    pose = model.pose
    codes = pose.encoder(past[:, 0])
    other = h = c = codes.new_zeros(2, 5)
    initial, _ = pose(past, 1, 3)
    for k in range(3):
        seen, _ = pose.past_lstm(torch.cat([codes, other], dim=1)[:, None])
        other = seen[:, 0]
        _, (h, c) = pose.initial_lstm(other[:, None], (h[None], c[None]) if k else None)
        h, c = h[0], c[0]
        expected = pose.initial_head(h)
        found = torch.cat([initial.mean[:, k], initial.log_std[:, k]], dim=1)
        torch.testing.assert_close(found, expected)


# The variational bound


def test_divergence_is_the_priors() -> None:
    torch.manual_seed(0)
    latent = Gaussian(torch.randn(3, 2, 4), torch.randn(3, 2, 4))
    for mean, std in ((0.0, 1.0), (2.0, 0.2), (0.0, 0.1)):  # whatever the prior's units
        prior = Normal(mean, std)
        posterior = Normal(mean + std * latent.mean, std * latent.log_std.exp())
        expected = kl_divergence(posterior, prior).sum((1, 2))
        torch.testing.assert_close(latent.divergence(), expected)


def test_divergence_of_a_very_narrow_posterior_is_finite() -> None:
    narrow = Gaussian(torch.zeros(1, 1), torch.full((1, 1), -300.0, requires_grad=True))
    assert narrow.divergence().item() == pytest.approx(299.5)
    gradient = torch.autograd.grad(narrow.divergence().sum(), narrow.log_std)[0]
    assert gradient.item() == -1


def test_draws_follow_the_posterior() -> None:
    torch.manual_seed(0)
    mean = torch.tensor([1.0, -2.0]).expand(20_000, 2)
    drawn = Gaussian(mean, torch.tensor([0.5, 2.0]).log().expand(20_000, 2)).draw()
    torch.testing.assert_close(drawn.mean(0), mean[0], rtol=0, atol=0.06)
    torch.testing.assert_close(drawn.std(0), torch.tensor([0.5, 2.0]), rtol=0.03, atol=0)


def test_loss_is_the_negative_bound_a_pixel() -> None:
    model = tiny().eval()
    past, future = random_frames(TINY)
    frames = torch.cat([past, future], dim=1)
    with torch.no_grad():
        objects, poses, _ = model.infer(past, 2)
        initial, changes = model.pose(past, 2, 2)
        content = model.content(model.cut_out(past, poses[:, :, :3]).flatten(0, 1))
        likelihood = Normal(model.compose(objects, poses), 0.3)
        best = likelihood.log_prob(likelihood.mean).sum()  # the constant that the loss leaves out
        divergence = sum(g.divergence().sum() for g in (initial, changes, content))
        bound = likelihood.log_prob(frames).sum() - best - divergence
        torch.testing.assert_close(model.loss(past, future), -bound / frames.numel())
        torch.testing.assert_close(model(past, 2), likelihood.mean[:, 3:])
    assert divergence > 0


def test_latents_are_drawn_in_training_only() -> None:
    model = tiny()
    past, future = random_frames(TINY)
    torch.manual_seed(0)
    trained = [model.loss(past, future).item() for _ in range(2)]
    model.eval()
    state = torch.get_rng_state()
    evaluated = [model.loss(past, future).item() for _ in range(2)]
    assert trained[0] != trained[1]
    assert evaluated[0] == evaluated[1]
    assert torch.equal(torch.get_rng_state(), state)


def test_an_untrained_posterior_is_near_the_prior() -> None:
    past, _ = random_frames(TINY)
    for latent in tiny().pose(past, 2, 2):
        assert latent.mean.abs().max() < 0.1
        assert latent.log_std.abs().max() < 0.1


def test_compile_compiles_the_convolutional_networks() -> None:
    model = tiny().eval()
    backend = Backend()
    model.compile(backend=backend)
    model.loss(*random_frames(TINY))
    assert len(backend.runs) == 3  # encoder of frames, encoder of objects, decoder


# Options


@pytest.mark.parametrize("size", [4, 12, -8])
def test_an_objects_size_is_a_power_of_two(size: int) -> None:
    with pytest.raises(ValueError, match=f"object_size is {size}"):
        tiny(object_size=size)
