"""Recurrent predictors against their textbook form.

`python -m pytest -s benchmarks/speed/bench_recurrent.py`.

The textbook form has one convolution for each gate and input, every one of them at every step. All
take the same training step of the paper's size, in turns, and must reach the same loss: at batch 2
on the CPU; at batch 16 on a GPU, where ours is also compiled, as training does it there.
"""

import multiprocessing
import time
from multiprocessing.connection import Connection

import pytest
import torch
from torch import nn

from baselines import ConvLSTM, PredRNN
from baselines.recurrent import Recurrent
from benchmarks.experiment import hardware as heap
from tau import Clip

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BATCH, ROUNDS = {"cpu": (2, 3), "cuda": (16, 10)}[DEVICE]
AT_LEAST = 1.5  # times as fast as the textbook form


def convolution(channels_in: int, channels: int, kernel: int) -> nn.Conv2d:
    """One gate of one input."""
    return nn.Conv2d(channels_in, channels, kernel, padding=kernel // 2, bias=False)


class TextbookConvLSTMCell(nn.Module):
    """Eq. 3 of ConvLSTM, a line a gate."""

    def __init__(self, channels_in: int, n: int, kernel: int) -> None:
        super().__init__()
        self.x = nn.ModuleDict({gate: convolution(channels_in, n, kernel) for gate in "ifog"})
        self.h = nn.ModuleDict({gate: convolution(n, n, kernel) for gate in "ifog"})

    def forward(self, x, h, c):
        """One step."""
        i = torch.sigmoid(self.x["i"](x) + self.h["i"](h))
        f = torch.sigmoid(self.x["f"](x) + self.h["f"](h))
        o = torch.sigmoid(self.x["o"](x) + self.h["o"](h))
        g = torch.tanh(self.x["g"](x) + self.h["g"](h))
        c = f * c + i * g
        return o * torch.tanh(c), c


class TextbookSTLSTMCell(nn.Module):
    """Eq. 4 of PredRNN, a line a gate."""

    def __init__(self, channels_in: int, n: int, kernel: int) -> None:
        super().__init__()
        names = ("i", "f", "g", "o", "im", "fm", "gm")
        self.x = nn.ModuleDict({gate: convolution(channels_in, n, kernel) for gate in names})
        self.h = nn.ModuleDict({gate: convolution(n, n, kernel) for gate in "ifgo"})
        self.m = nn.ModuleDict({gate: convolution(n, n, kernel) for gate in "ifg"})
        self.o = convolution(2 * n, n, kernel)
        self.last = convolution(2 * n, n, 1)

    def forward(self, x, h, c, m):
        """One step."""
        i = torch.sigmoid(self.x["i"](x) + self.h["i"](h))
        f = torch.sigmoid(self.x["f"](x) + self.h["f"](h) + 1)
        g = torch.tanh(self.x["g"](x) + self.h["g"](h))
        c = f * c + i * g
        i = torch.sigmoid(self.x["im"](x) + self.m["i"](m))
        f = torch.sigmoid(self.x["fm"](x) + self.m["f"](m) + 1)
        g = torch.tanh(self.x["gm"](x) + self.m["g"](m))
        m = f * m + i * g
        both = torch.cat([c, m], dim=1)
        o = torch.sigmoid(self.x["o"](x) + self.h["o"](h) + self.o(both))
        return o * torch.tanh(self.last(both)), c, m


class Textbook(Recurrent):
    """The same loop, patches and read-out around textbook cells."""

    def __init__(self, clip: Clip, cell: type[nn.Module]) -> None:
        super().__init__(clip, (128,) * 4, 5, 4, 50_000)
        inputs = (16, 128, 128, 128)
        self.cells = nn.ModuleList(cell(n, 128, 5) for n in inputs)
        self.readout = convolution(128, 16, 1)
        self.has_m = cell is TextbookSTLSTMCell

    def start(self, frame):
        """Zeros."""
        return [(self.zeros(frame, 128),) * 2 for _ in self.cells], self.zeros(frame, 128)

    def next_frame(self, frame, state):
        """Up the stack."""
        layers, m = state
        x, new = frame, []
        for cell, (h, c) in zip(self.cells, layers, strict=True):
            if self.has_m:
                x, c, m = cell(x, h, c, m)
            else:
                x, c = cell(x, h, c)
            new.append((x, c))
        return self.readout(x), (new, m)


KINDS = {"ConvLSTM": (ConvLSTM, TextbookConvLSTMCell), "PredRNN": (PredRNN, TextbookSTLSTMCell)}
WAYS = {  # textbook; on the CPU: keep freed memory; on a GPU: compile
    "cpu": {
        "textbook, as glibc does": (True, False),
        "textbook": (True, True),
        "ours": (False, True),
    },
    "cuda": {"textbook": (True, False), "ours": (False, False), "ours, compiled": (False, True)},
}[DEVICE]


def train(connection: Connection, name: str, textbook: bool, option: bool) -> None:
    """In a process: take a step for each message, answer with its seconds; end with None."""
    if DEVICE == "cpu" and option and not heap.keep_freed_memory():
        raise RuntimeError("this C library's heap cannot be told to keep freed memory")
    torch.backends.cudnn.benchmark = True
    clip = Clip()
    ours, cell = KINDS[name]
    model = (Textbook(clip, cell) if textbook else ours(clip)).to(DEVICE)
    with torch.no_grad():
        for weight in model.parameters():  # the same in every form, however it is cut
            weight.fill_(1 / weight[0].numel())
    if DEVICE == "cuda" and option:
        model.compile()
    optimiser = torch.optim.Adam(model.parameters(), fused=True)
    torch.manual_seed(0)
    past, future = clip.split(torch.rand(BATCH, clip.frames, 1, 64, 64).to(DEVICE))
    connection.send((sum(p.numel() for p in model.parameters()), model.loss(past, future).item()))
    while connection.recv():
        start = time.perf_counter()
        optimiser.zero_grad()
        model.loss(past, future).backward()
        optimiser.step()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        connection.send(time.perf_counter() - start)


@pytest.mark.parametrize("name", KINDS)
def test_training_step(benchmark, name):
    """Seconds of a step each way, in turns; each way has a process, as the heap is one's own."""
    context = multiprocessing.get_context("spawn")
    pipes, sizes, losses = {}, set(), []
    for way, options in WAYS.items():
        pipes[way], theirs = multiprocessing.Pipe()
        context.Process(target=train, args=(theirs, name, *options), daemon=True).start()
        size, loss = pipes[way].recv()
        sizes.add(size)
        losses.append(loss)
    assert len(sizes) == 1, "all have as many parameters"
    assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-4)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}

    def turn() -> None:
        for way, pipe in pipes.items():
            pipe.send(True)
            seconds[way].append(pipe.recv())

    benchmark.pedantic(turn, rounds=ROUNDS, warmup_rounds=1)
    best = {way: min(times[1:]) for way, times in seconds.items()}
    for pipe in pipes.values():
        pipe.send(None)
    benchmark.extra_info.update(seconds=seconds)
    for way, value in best.items():
        ratio = value / best["ours"]
        print(f"\n{name}, batch {BATCH}, {way}: {value:.3f} s a step, {ratio:.2f} times ours")
    assert best["textbook"] > AT_LEAST * min(v for way, v in best.items() if "ours" in way)
