"""Generated stand-ins: the contract, streams that never meet, and motion that can be predicted."""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from benchmarks.data import MovingMNIST
from benchmarks.data.dataset import random_words
from benchmarks.data.synthetic import (
    BLOCK,
    SYNTHETIC,
    SyntheticDrive,
    SyntheticFigure,
    SyntheticMovingMNIST,
    SyntheticTraffic,
    drive,
    person,
    traffic,
)
from benchmarks.data.synthetic.camera import (
    BOULEVARD,
    CELL,
    CELLS,
    STREET,
    SUBURB,
    View,
    look,
    seen_along,
)
from benchmarks.data.synthetic.draws import Draws
from benchmarks.data.synthetic.roadside import Things, draw_things
from benchmarks.data.synthetic.shapes import Balls, in_line, paint

CLASSES = [SyntheticTraffic, SyntheticFigure, SyntheticDrive]
SHAPES = {
    SyntheticTraffic: (8, 2, 32, 32),
    SyntheticFigure: (30, 1, 128, 128),
    SyntheticDrive: (11, 3, 128, 160),
}


@pytest.fixture(scope="module", params=CLASSES, ids=lambda cls: cls.__name__)
def short(request):
    """Each set with clips of three frames."""
    return request.param(past=2, future=1)


@pytest.fixture(scope="module")
def flows():
    return traffic.clips(Draws(("flows",), 48), 8)


@pytest.fixture(scope="module")
def people():
    """Draws of 40 people, and their clips of 12 frames without the channel."""
    draws = Draws(("people",), 40)
    return draws, person.clips(draws, 12)[:, :, 0]


# The contract


@pytest.mark.parametrize("cls", CLASSES)
def test_clips_have_the_shape_and_range_of_the_real_set(cls):
    dataset = cls()
    clip = dataset.clip
    assert (clip.frames, clip.channels, clip.height, clip.width) == SHAPES[cls]
    clips = dataset.batch(0, 0, 2, "cpu")
    assert clips.shape == (2, *SHAPES[cls]) and clips.dtype == torch.float32
    assert 0 <= clips.min() < 0.2 and 0.6 < clips.max() <= 1
    assert 0.02 < clips.std() < 0.4
    assert (dataset.train_sequences, dataset.test_sequences) == (10_000, 1_000)


def test_a_batch_is_a_pure_function_of_seed_step_and_size(short):
    first = short.batch(3, 5, 2, "cpu")
    for other in ((4, 5), (3, 6), (5, 3), (3 + 2**32, 5)):
        assert not torch.equal(short.batch(*other, 2, "cpu"), first)
    assert torch.equal(short.batch(3, 5, 2, "cpu"), first)
    assert torch.equal(type(short)(past=2, future=1).batch(3, 5, 2, "cpu"), first)
    assert not torch.equal(first[0], first[1])


def test_no_two_streams_meet_in_a_clip_or_between_sides(short, monkeypatch):
    drawn: list[tuple[str | int, ...]] = []

    def record(count, *stream):
        drawn.append(stream)
        return random_words(count, *stream)

    traffic.city()  # drawn once, for all clips
    monkeypatch.setattr("benchmarks.data.synthetic.draws.random_words", record)
    fresh = type(short)(past=2, future=1)  # with no block made yet
    fresh.batch(0, 0, 1, "cpu")
    fresh.batch(0, 1, 1, "cpu")
    fresh.batch(1, 0, 1, "cpu")
    list(fresh.validation(BLOCK + 1, BLOCK, "cpu"))
    list(fresh.test(BLOCK + 1, BLOCK, "cpu"))
    assert len(drawn) > 7 * 5 and len(set(drawn)) == len(drawn)


def test_validation_is_the_training_side_and_test_clips_are_others(short):
    train = short.batch(0, 0, 4, "cpu")
    validation = next(short.validation(4, 4, "cpu"))
    test = next(short.test(4, 4, "cpu"))
    for a, b in ((train, validation), (train, test), (validation, test)):
        assert (a - b).abs().amax((1, 2, 3, 4)).min() > 0.1


@pytest.mark.parametrize("side", ["validation", "test"])
def test_fixed_clips_are_the_same_at_every_call_and_batch_size(short, side):
    read, count = getattr(short, side), BLOCK + 3
    whole = torch.cat(list(read(count, count, "cpu")))
    parts = list(read(count, 7, "cpu"))
    assert [len(part) for part in parts] == [7, 7, count - 14]
    assert torch.equal(torch.cat(parts), whole)
    next(read(2, 2, "cpu")).zero_()  # a batch is the caller's own
    assert torch.equal(next(read(2, 2, "cpu")), whole[:2])


def test_the_test_side_ends_with_a_short_batch():
    dataset = SyntheticTraffic(past=1, future=1)
    dataset.test_sequences = 20
    assert [len(clips) for clips in dataset.test(None, 16, "cpu")] == [16, 4]


@pytest.mark.parametrize("cls", CLASSES)
def test_a_longer_clip_begins_as_the_shorter_one(cls):
    long, brief = cls(past=2, future=3), cls(past=2, future=1)
    for a, b in (
        (long.batch(0, 1, 2, "cpu"), brief.batch(0, 1, 2, "cpu")),
        (next(long.test(2, 2, "cpu")), next(brief.test(2, 2, "cpu"))),
    ):
        assert torch.allclose(a[:, :3], b, atol=1e-5)


@pytest.mark.parametrize("cls", CLASSES)
def test_downsample_averages_squares_of_pixels(cls):
    full, quarter = cls(past=1, future=1), cls(past=1, future=1, downsample=4)
    clips, small = full.batch(0, 0, 2, "cpu"), quarter.batch(0, 0, 2, "cpu")
    size = (quarter.clip.channels, quarter.clip.height, quarter.clip.width)
    assert small.shape[2:] == size and 4 * size[1] == full.clip.height
    expected = clips.unflatten(-1, (-1, 4)).unflatten(-3, (-1, 4)).mean((-1, -3))
    assert torch.allclose(small, expected, atol=1e-6)
    assert quarter.digest != full.digest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"downsample": 0}, "downsample is 0; expected a divisor"),
        ({"downsample": 3}, "downsample is 3; expected a divisor"),
        ({"past": 0}, "Clip.past is 0; expected a positive integer"),
        ({"future": -1}, "Clip.future is -1; expected a positive integer"),
    ],
)
@pytest.mark.parametrize("cls", CLASSES)
def test_options_out_of_range_are_refused(cls, options, message):
    with pytest.raises(ValueError, match=message):
        cls(**options)


def test_sizes_out_of_range_are_refused(short):
    with pytest.raises(ValueError, match="size is 0; expected a positive integer"):
        short.batch(0, 0, 0, "cpu")
    for read in (short.validation, short.test):
        with pytest.raises(ValueError, match="sequences is 0"):
            read(0, 4, "cpu")
        with pytest.raises(ValueError, match="batch_size is 0"):
            read(4, 0, "cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_clips_come_to_the_device_asked_for(short):
    assert torch.equal(short.batch(0, 0, 2, "cuda").cpu(), short.batch(0, 0, 2, "cpu"))
    assert next(short.test(2, 2, "cuda")).is_cuda


# Marks


@pytest.mark.parametrize("real", SYNTHETIC)
def test_every_stand_in_is_marked_and_reads_no_folder(real):
    constructor = SYNTHETIC[real]
    dataset = constructor(Path("no such folder"))
    assert dataset.synthetic and dataset.name.startswith("synthetic ")
    assert dataset.provenance["name"] == dataset.name and dataset.provenance["synthetic"]
    assert dataset.caption.startswith("Synthetic ")
    assert "not the real data" in dataset.caption and "do not compare" in dataset.caption
    assert "no such folder" not in json.dumps(dataset.provenance)
    assert constructor().digest == dataset.digest
    assert constructor(future=3).digest != dataset.digest
    parameters = inspect.signature(constructor).parameters.values()
    options = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert options >= {"past", "future", "downsample"} and "generated_test" not in options


def test_digests_differ_between_stand_ins():
    assert len({constructor().digest for constructor in SYNTHETIC.values()}) == 4


def test_synthetic_moving_mnist_is_moving_mnist_of_the_bundled_digits(tmp_path):
    stand_in = SyntheticMovingMNIST(tmp_path, digits=1, downsample=2)
    bundled = MovingMNIST(digits=1, downsample=2)
    assert torch.equal(stand_in.batch(0, 1, 3, "cpu"), bundled.batch(0, 1, 3, "cpu"))
    assert torch.equal(next(stand_in.test(3, 3, "cpu")), next(bundled.test(3, 3, "cpu")))
    assert stand_in.name == "synthetic moving-mnist" and not bundled.synthetic
    assert stand_in.digest != bundled.digest


# Random numbers and shapes


def test_noise_has_mean_0_and_variance_1_and_differs_everywhere():
    noise = Draws(("noise",), 3).noise("n", 5, 7, 40)
    assert noise.shape == (3, 5, 7, 40)
    assert abs(noise.mean()) < 0.05 and noise.std() == pytest.approx(1, abs=0.03)
    flat = noise.flatten(0, 1).flatten(1)
    assert torch.corrcoef(flat).fill_diagonal_(0).abs().max() < 0.3


def test_quantities_are_independent_and_fill_their_ranges():
    draws = Draws(("a", 1), 500)
    x, y = draws.uniform("x", -2, 4), draws.uniform("y", -2, 4)
    assert -2 <= x.min() < -1.9 and 3.9 < x.max() < 4
    assert abs(torch.corrcoef(torch.stack([x, y]))[0, 1]) < 0.15
    assert torch.equal(draws.uniform("x", -2, 4), x)
    assert draws.choice("k", 4).unique().tolist() == [0, 1, 2, 3]


def drawn(balls: Balls, chosen: torch.Tensor | None = None) -> torch.Tensor:
    """A picture [40, 60] of white balls on black."""
    frames = torch.zeros(1, 1, 1, 40, 60)
    which = torch.ones(1, balls.x.shape[-1], dtype=torch.bool) if chosen is None else chosen
    paint(frames, balls, which, sharpness=4)
    return frames[0, 0, 0]


def ball_row(x: list[float], y: float, radius: float, weight: float, grey: list[float]) -> Balls:
    numbers = (torch.tensor(x), torch.tensor(y), torch.tensor(radius), torch.tensor(weight))
    return Balls(*numbers, torch.ones(()), torch.tensor(grey).unsqueeze(-1))


def test_a_ball_has_its_place_its_radius_and_its_colour():
    picture = drawn(ball_row([22.0], 17.0, 9.0, 1.0, [0.8]))
    assert picture.sum() / 0.8 == pytest.approx(math.pi * 81, rel=0.03)
    assert picture[17, 22] == pytest.approx(0.8)
    across, down = picture.sum(0), picture.sum(1)
    assert (across * (torch.arange(60) + 0.5)).sum() / across.sum() == pytest.approx(22, abs=0.01)
    assert (down * (torch.arange(40) + 0.5)).sum() / down.sum() == pytest.approx(17, abs=0.01)


def test_balls_in_line_are_as_thick_as_one_and_keep_their_own_greys():
    weight = float(in_line(torch.tensor(4.0), torch.tensor(6.0)))
    picture = drawn(ball_row([4.0 * k for k in range(16)], 20.0, 6.0, weight, [0.5] * 8 + [1] * 8))
    assert (picture[:, 15] / 0.5).sum() == pytest.approx(12, rel=0.03)
    assert picture[20, 10] == pytest.approx(0.5, abs=0.01)
    assert picture[20, 50] == pytest.approx(1, abs=0.01)


def test_balls_not_chosen_or_outside_are_not_drawn():
    balls = ball_row([20.0, -90.0], 20.0, 6.0, 1.0, [1.0, 1.0])
    assert drawn(balls, torch.tensor([[True, True]])).max() == 1
    assert drawn(balls, torch.tensor([[False, True]])).max() == 0
    assert drawn(balls, torch.tensor([[False, False]])).max() == 0


# Traffic


def test_what_leaves_a_region_arrives_in_the_right_neighbour():
    leaving = torch.zeros(4, 32, 32)
    leaving[:, 10, 20] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    leaving[0, 5, 31] = 9.0  # leaves the map
    expected = torch.zeros(32, 32)
    for (down, right), number in zip(traffic.NEIGHBOURS, (1, 2, 3, 4), strict=True):
        expected[10 + down, 20 + right] = number
    assert torch.equal(traffic.arrivals(leaving), expected)
    field = torch.rand(32, 32)
    for k, (down, right) in enumerate(traffic.NEIGHBOURS):
        assert traffic.neighbours(field)[k, 10, 20] == field[10 + down, 20 + right]


def test_the_citys_inflow_is_its_outflow(flows):
    inflow, outflow = flows.clamp(max=0.999).sum((3, 4)).unbind(2)
    assert torch.all(inflow <= 1.03 * outflow) and torch.all(inflow >= 0.8 * outflow)
    assert (inflow.sum() / outflow.sum()).item() == pytest.approx(1, abs=0.03)


def test_what_leaves_regions_enters_those_around_them(flows):
    """A region's inflow follows its neighbours' outflow better than that of regions farther on."""
    inflow, outflow = flows.flatten(0, 1).unbind(1)
    near, far = [], []
    for (down, right), distances in ((step, (1, 4)) for step in traffic.NEIGHBOURS):
        for distance, found in zip(distances, (near, far), strict=True):
            shifted = outflow.roll((distance * down, distance * right), (1, 2))
            found.append(torch.corrcoef(torch.stack([inflow.flatten(), shifted.flatten()]))[0, 1])
    assert min(near) > max(far) + 0.2


def test_the_day_has_two_rush_hours_and_clips_start_at_any_hour(flows):
    night, morning, noon, evening = traffic.rush(torch.tensor([3.0, 8, 14.5, 18]))
    assert morning > 5 * night and evening > 1.3 * noon and morning > 1.3 * noon
    start = Draws(("flows",), 48).uniform("hour", 0, 24)
    by_hour = flows[:, 0].mean((1, 2, 3))
    assert by_hour[(start > 7) & (start < 9)].min() > 1.5 * by_hour[(start > 1) & (start < 4)].max()


def test_all_clips_show_the_same_city(flows):
    mean = flows.mean((0, 1, 2))
    assert torch.corrcoef(torch.stack([mean, traffic.city().roads]).flatten(1))[0, 1] > 0.7


def test_traffic_is_predicted_better_by_its_change_than_by_its_last_frame(flows):
    last, following = flows[:, 3], flows[:, 4]
    repeated = (following - last).square().mean()
    extrapolated = (following - (2 * last - flows[:, 2]).clamp(0, 1)).square().mean()
    assert extrapolated < 0.85 * repeated
    assert 0.01 < repeated.sqrt() < 0.1


# Figure


def foreground(clips: torch.Tensor) -> torch.Tensor:
    """[B, T, H, W] less the still scene, of which every pixel is seen in half of the frames."""
    return clips - clips.median(1, keepdim=True).values


def best_shift(before: torch.Tensor, after: torch.Tensor) -> int:
    errors = {k: (after - before.roll(k, -1)).square().mean().item() for k in range(-8, 9)}
    return min(errors, key=errors.__getitem__)


def test_those_who_walk_move_on_at_a_constant_speed(people):
    draws, clips = people
    action = draws.choice("action", len(person.ACTIONS))
    facing = 1 - 2 * draws.choice("facing", 2)
    assert action.unique().tolist() == list(range(6))
    shifted, repeated = [], []
    for clip, kind, way in zip(foreground(clips), action, facing, strict=True):
        if person.ACTIONS[int(kind)].walks:
            shift = best_shift(clip[6], clip[8])
            assert shift * int(way) > 0
            shifted.append((clip[10] - clip[8].roll(shift, -1)).square().mean())
            repeated.append((clip[10] - clip[8]).square().mean())
    assert sum(shifted) < 0.75 * sum(repeated)


def test_the_scene_is_still_but_for_a_little_noise(people):
    corner = people[1][:, :, :12]  # above the heads, but for raised arms
    assert corner.std(1).median().item() == pytest.approx(0.008, rel=0.1)
    assert people[1].mean((2, 3)).std(1).max() < 0.05


def test_everybody_moves_and_grey_levels_vary(people):
    _, clips = people
    change = (clips[:, 1:] - clips[:, :-1]).square().mean((1, 2, 3)).sqrt()
    assert change.min() > 0.0115 and change.max() < 0.2  # the noise alone changes by 0.0113
    assert clips.mean((1, 2, 3)).std() > 0.03 and 0.5 < clips.mean() < 0.8


def test_limbs_swing_and_keep_their_lengths():
    pose = person.poses(Draws(("walk",), 60), 40)
    points = torch.stack([pose.x, pose.y], dim=-1)[:, :, :40].unflatten(2, (4, 10))
    for first, last in ((0, 3), (4, 7)):  # of the upper part, of the lower part
        length = (points[:, :, :, last] - points[:, :, :, first]).norm(dim=-1)
        assert torch.allclose(length, 0.75 * person.LENGTH.expand_as(length), atol=1e-5)
    hands = points[:, :, :2, -1].std(1).amax(-1).amax(-1)
    assert hands.min() > 0.01
    assert torch.equal(pose.foot, pose.y.amax(-1, keepdim=True))


def test_three_of_six_actions_move_on_and_runners_are_the_fastest():
    draws = Draws(("walk",), 60)
    action = draws.choice("action", len(person.ACTIONS))
    stride = person.poses(draws, 2).stride.flatten()
    walk, jog, run = (stride[action == kind] for kind in range(3))
    assert walk.min() > 0.01 and walk.max() < jog.min() and jog.max() < run.min()
    assert torch.all(stride[action > 2] == 0)


# Drive


def still(travel: list[float]) -> View:
    at = torch.tensor(travel).view(1, -1, 1)
    zero = torch.zeros(1, 1, 1)
    return View(SUBURB, at, zero, zero, zero, zero, zero)


def test_pixels_see_exact_means_of_the_street():
    cells = torch.rand(1, CELLS, 2)
    view = still([0.0, STREET - 10])

    def seen(depth: float, extent: float) -> torch.Tensor:
        shape = (1, 2, 1)
        found = seen_along(cells, view, torch.full(shape, depth), torch.full(shape, extent))
        return found[0, :, 0]

    one = seen(10 + CELL / 2, CELL)  # half a metre more than 10: cell 20, and cell 0 a turn later
    assert torch.allclose(one, torch.stack([cells[0, 20], cells[0, 0]]), atol=1e-6)
    tiny = seen(10 + CELL / 4, 1e-3)
    assert torch.allclose(tiny, one, atol=1e-5)
    both = seen(10.0, CELL)
    expected = torch.stack([cells[0, 19:21].mean(0), cells[0, [-1, 0]].mean(0)])
    assert torch.allclose(both, expected, atol=1e-6)
    assert torch.allclose(seen(37.0, STREET)[0], cells[0].mean(0), atol=1e-6)


def test_things_are_seen_at_their_place_until_the_camera_passes_them():
    level, middle = torch.full((1, 1, 1), 64.0), torch.full((1, 1, 1), 80.0)
    at = torch.tensor([0.0, 9.0, 10.0]).view(1, -1, 1)
    view = View(SUBURB, at, torch.zeros(1, 1, 1), middle, level, at, at)
    x, y = torch.tensor([2.0]), torch.tensor([SUBURB.camera])
    things = Things(x, y, STREET + 10 - at, torch.ones(1), torch.ones(1), torch.ones(1, 1, 1, 3))
    canvas = torch.zeros(1, 3, 3, 128, 160)
    draw_things(canvas, view, things)
    seen, passing, passed = canvas[0]
    assert seen.argmax(-1)[0, 64] == pytest.approx(80 + SUBURB.focal * 2 / 10, abs=15)
    assert seen[:, 64, 112].min() > 0.9 and seen[:, 30].max() == 0
    assert passing.max() == 0 and passed.max() == 0
    assert canvas.isfinite().all()


def zoomed(frames: torch.Tensor, view: View, time: int, zoom: float) -> torch.Tensor:
    """`frames` [B, 3, H, W] enlarged about the direction of travel."""
    height, width = frames.shape[-2:]
    x = torch.arange(width) + 0.5 - view.middle[:, time]
    y = torch.arange(height) + 0.5 - view.level[:, time]
    column = (x / zoom + view.middle[:, time]) * 2 / width - 1
    row = (y / zoom + view.level[:, time]) * 2 / height - 1
    grid = torch.stack(
        [
            column.unsqueeze(1).expand(-1, height, -1),
            row.unsqueeze(2).expand(-1, -1, width),
        ],
        dim=-1,
    )
    return F.grid_sample(frames, grid, padding_mode="border", align_corners=False)


@pytest.mark.parametrize("domain", [SUBURB, BOULEVARD], ids=["suburb", "boulevard"])
def test_driving_on_enlarges_the_scene(domain):
    draws = Draws(("drive",), 12)
    clips = drive.clips(draws, 4, domain)
    view = look(draws, 4, domain)

    def errors(zoom: float) -> torch.Tensor:
        return (clips[:, 3] - zoomed(clips[:, 2], view, 2, zoom)).square().mean((1, 2, 3))

    assert torch.allclose(zoomed(clips[:, 2], view, 2, 1.0), clips[:, 2], atol=1e-3)
    repeated, best = errors(1.0), torch.stack([errors(z) for z in (1.02, 1.035, 1.05)]).amin(0)
    assert best.mean() < 0.9 * repeated.mean()
    assert errors(0.96).mean() > repeated.mean()
    assert 0.02 < repeated.mean().sqrt() < 0.15


def test_the_test_side_is_another_domain():
    dataset = SyntheticDrive(past=1, future=1)
    train = dataset.batch(0, 0, BLOCK, "cpu")
    validation = next(dataset.validation(BLOCK, BLOCK, "cpu"))
    test = next(dataset.test(BLOCK, BLOCK, "cpu"))

    def warmth(clips: torch.Tensor) -> torch.Tensor:  # of the road before the car
        road = clips[:, :, :, -8:, 60:100].mean((0, 1, 3, 4))
        return road[0] - road[2]

    def horizon(clips: torch.Tensor) -> float:  # the row with the greatest change of brightness
        rows = clips.mean((0, 1, 2, 4))
        return float((rows[:-4] - rows[4:]).argmax())

    assert abs(warmth(train) - warmth(validation)) < 0.02
    assert warmth(test) - warmth(train) > 0.04
    assert abs(horizon(train) - horizon(validation)) <= 5
    assert BOULEVARD.camera != SUBURB.camera and BOULEVARD.speed > SUBURB.speed
