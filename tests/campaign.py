"""A random campaign against the command: kills, signals, damaged files, malformed inputs.

    python tests/campaign.py --seconds 600 --seed 0

Each attempt breaks something at random and then looks at what is left: the same command must end
with the very scores of an undisturbed run, what is damaged must be named and never believed, bad
input must end in an error line before anything trains, and no file of the user's may change. What
an attempt does follows from its seed; when a kill strikes also depends on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this checkout, whatever is installed

from benchmarks.files import sha256  # noqa: E402
from benchmarks.run import main  # noqa: E402

SUITE = """
from baselines import LastFrame
from benchmarks import Panel, Row, Suite, Training
from benchmarks.data import MovingMNIST
from tau import TAU

SMALL = dict(spatial_hidden=4, temporal_hidden=8, spatial_depth=2, temporal_depth=2, mlp_ratio=2)
SUITE = Suite(
    "campaign", "Campaign", (Panel(MovingMNIST),),
    (Row("Last frame", LastFrame), Row("A", TAU, SMALL), Row("B", TAU, {"alpha": 0.5, **SMALL})),
    {"smoke": Training(epochs=3, sequences=40, batch_size=4, val_sequences=4, test_sequences=8,
                       precision="fp32")},
)
"""
LONGEST = 120.0  # seconds: an attempt that takes longer hangs


class Lost(Exception):
    """An attempt found something lost, believed or left hanging."""


def check(holds: object, what: str) -> None:
    """Raise Lost unless it holds."""
    if not holds:
        raise Lost(what)


class Campaign:
    """A folder with the user's files, an undisturbed run of the suite, and the attempts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        os.environ["SPATIOTEMPORAL_CACHE"] = str(folder / "cache")
        os.environ["OMP_NUM_THREADS"] = "1"
        self.data = folder / "data"
        self.data.mkdir()
        clips = np.random.default_rng(0).integers(0, 256, (40, 6, 1, 16, 16), np.uint8)
        np.save(self.data / "clips.npy", clips)
        self.suite = folder / "campaign_suite.py"
        self.suite.write_text(SUITE)
        status, text = self.call(folder / "whole")
        check(status == 0, f"the undisturbed run ends with {status}:\n{text}")
        self.scores = self.scores_of(folder / "whole")
        self.users = self.digests()

    def command(self, out: Path, *options: str) -> list[str]:
        """The arguments of the command on the campaign's suite and data."""
        data = str(self.data / "clips.npy")
        where = ("--data", data, "--out", str(out), "--device", "cpu")
        how = () if "--report" in options else ("--checkpoint-seconds", "0")
        return ["--suite", str(self.suite), *where, *how, "--no-figures", *options]

    def call(self, out: Path, *options: str) -> tuple[int, str]:
        """Run the command in this process: status and what it printed."""
        return self.run(self.command(out, *options))

    def run(self, arguments: list[str]) -> tuple[int, str]:
        """Run a command in this process; Lost for a traceback or one that hangs."""
        text = io.StringIO()
        with time_limit(), contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            try:
                status = main(arguments)
            except SystemExit as error:  # of argparse
                status = int(error.code or 0)
        check("Traceback" not in text.getvalue(), f"a traceback:\n{text.getvalue()}")
        return status, text.getvalue()

    def start(self, out: Path, *options: str) -> subprocess.Popen[str]:
        """Start the command as a process, and a group, of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.run", *self.command(out, *options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def scores_of(self, out: Path) -> dict[str, bytes]:
        """What each row's finished run scored, bit-exact."""
        found = {}
        for path in sorted((out / "runs").glob("*/record.json")):
            record = json.loads(path.read_text())
            with np.load(path.parent / "scores.npz") as scores:
                found[record["row"]] = b"".join(scores[name].tobytes() for name in scores.files)
        return found

    def digests(self) -> dict[str, str]:
        """The user's files and their content."""
        paths = [self.suite, *(path for path in self.data.rglob("*") if path.is_file())]
        return {str(path): sha256(path) for path in paths}

    def check_whole(self, out: Path) -> None:
        """Run the command again: it must end well, with the scores of the undisturbed run."""
        status, text = self.call(out)
        check(status == 0, f"the same command ends with {status}:\n{text}")
        check(self.scores_of(out) == self.scores, "other scores than those of the undisturbed run")
        left = [str(path) for path in out.rglob(".partial-*")]
        check(not left, f"partial files are left: {left}")

    # --- attempts ---

    def kill(self, dice: random.Random, out: Path) -> None:
        """Kill the command, or one of its processes, up to three times at random moments."""
        for _ in range(dice.randint(1, 3)):
            process = self.start(out)
            wait(process, dice.uniform(0, 12), dice, out)
            victims = [process.pid, *children(process.pid)]
            victim = dice.choice([process.pid, dice.choice(victims)])
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            finish(process)
        self.check_whole(out)

    def signal(self, dice: random.Random, out: Path) -> None:
        """Send a signal that asks to stop, to the command or to its whole group."""
        number = dice.choice([signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
        process = self.start(out)
        wait(process, dice.uniform(0, 12), dice, out)
        to_group = dice.random() < 0.5
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if to_group else os.kill)(process.pid, number)
        text = finish(process)
        started = "starts" in text
        if process.returncode not in (0, 128 + number):
            # before the command has begun, Python itself answers
            check(not started, f"{number!r} ends it with {process.returncode}:\n{text}")
        check(not started or "Traceback" not in text, f"a traceback:\n{text}")
        self.check_whole(out)

    def share(self, dice: random.Random, out: Path) -> None:
        """Two commands on one plan at once; one of them may be killed."""
        first = self.start(out, "--jobs", "1")
        second = self.start(out, "--jobs", "1")
        if dice.random() < 0.5:
            wait(first, dice.uniform(2, 10), dice, out)
            first.kill()
        finish(first)
        text = finish(second)
        check(second.returncode == 0, f"the other command ends with {second.returncode}:\n{text}")
        check(self.scores_of(out) == self.scores, "other scores than those of the undisturbed run")

    def damage_results(self, dice: random.Random, out: Path) -> None:
        """Damage a file of a finished run, then rebuild the table: nothing false is shown."""
        shutil.copytree(self.folder / "whole", out)
        files = sorted(path for path in (out / "runs").rglob("*") if path.is_file())
        victims = [path for path in files if path.suffix in (".json", ".npz", ".jsonl", ".pt")]
        victim = dice.choice(victims)
        how = damage(dice, victim)
        status, text = self.call(out, *(["--report"] if dice.random() < 0.5 else []))
        what = f"{victim.relative_to(out)}, {how}, status {status}:\n{text}"
        check(status in (0, 1, 2), what)
        whole = table(self.folder / "whole")
        for line in table(out):
            same = line in whole or re.search("failed|unusable|not run", line)
            other = line.split("|")[1].strip() not in ("A", "B")
            check(same or other, f"another number is shown, {what}\n{line}")
        if status == 0:
            check(victim.suffix == ".pt" or victim.exists(), f"not noticed: {what}")

    def damage_checkpoint(self, dice: random.Random, out: Path) -> None:
        """Kill the command while it trains, damage its checkpoints, and go on."""
        process = self.start(out, "--jobs", "1")
        wait(process, 60, dice, out, until="*/checkpoint-before.pt")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        finish(process)
        checkpoints = sorted((out / "runs").glob("*/checkpoint*.pt"))
        for path in dice.sample(checkpoints, dice.randint(0, len(checkpoints))):
            damage(dice, path)
        self.check_whole(out)

    def malformed_data(self, dice: random.Random, out: Path) -> None:
        """A user's data, damaged or odd, as the plan sees it: an error line, or a plan."""
        folder = out / "odd"
        folder.mkdir(parents=True)
        path = odd_data(dice, folder)
        for _ in range(dice.choice([0, 1, 1, 2])):
            found = sorted(path.parent.rglob("*"))
            files = [p for p in found if p.is_file() and not p.is_symlink()]
            if files:
                damage(dice, dice.choice(files))
        before = tree(folder)
        options = ["--suite", dice.choice(["compare", str(self.suite)]), "--rows", "Last frame"]
        options += ["--data", str(path), "--out", str(out / "out"), "--device", "cpu"]
        for name, values in OWN_OPTIONS.items():
            if dice.random() < 0.4:
                options += [name, *dice.choice(values)]
        status, text = self.run([*options, "--scale", "smoke", "--dry-run"])
        check(status in (0, 2), f"status {status}: {options}\n{text}")
        check(status == 0 or "error: " in text, f"no error line: {options}\n{text}")
        check(tree(folder) == before, f"the user's data were changed: {options}\n{text}")

    def malformed_options(self, dice: random.Random, out: Path) -> None:
        """Options with odd values: an error line, or a plan."""
        options = ["--suite", dice.choice(SUITES), "--out", str(out), "--dry-run"]
        for name, values in OPTIONS.items():
            if dice.random() < 0.3:
                options += [name, *dice.choice(values)]
        status, text = self.run(options)
        check(status in (0, 2), f"status {status}: {options}\n{text}")
        check(status == 0 or "error: " in text, f"no error line: {options}\n{text}")
        check(not out.exists(), f"--dry-run wrote into --out: {options}")


ODD = ("", "0", "-1", "1", "3", "x", "nan", "inf", "1e30", "99999999999999999999")
OWN_OPTIONS = {
    "--past": [[value] for value in ODD],
    "--future": [[value] for value in ODD],
    "--stride": [[value] for value in ODD],
    "--data-range": [[value] for value in ODD] + [["0", "1"], ["1", "0"], ["0", "255"], ["1"] * 3],
    "--layout": [["NTCHW"], ["NTHWC"], ["THW"], ["TNHW"], ["XYZ"], [""], ["NNNNN"]],
    "--variable": [["x"], [""], ["../x"], ["/"]],
    "--size": [["8x8"], ["0x0"], ["99999x99999"], ["x"], [""]],
    "--gray": [[]],
    "--fps": [[value] for value in ODD],
    "--crop": [["8x8"], ["4x4"], ["0x0"], ["99999x99999"], ["x"], [""]],
    "--pad": [["32x32"], ["8x8"], ["99999x99999"], ["8"]],
}
SUITES = (
    "smoke",
    "compare",
    "ablation",
    "kth20",
    "",
    "..",
    "/etc/passwd",
    "nothing.py",
    "ü",
    "x\0y",
)
OPTIONS = {
    "--scale": [["smoke"], ["quick"], ["x"], [""]],
    "--rows": [["Ours"], ["Last frame", "Ours"], [""], ["ours"], ["\n"]],
    "--seeds": [[value] for value in ("1", "2", "0", "-1", "x", "")],
    "--epochs": [[value] for value in ("1", "0", "x", "99999999999999999999")],
    "--precision": [["fp32"], ["bf16"], ["tf32"], ["x"]],
    "--device": [["cpu"], ["mps"], ["cuda"], ["x"]],
    "--data": [[""], ["/"], ["/dev/null"], ["/nothing"], ["synthetic"], ["x\0y"], ["ü.npy"]],
    "--dataset": [["kth"], ["x"], [""]],
    "--jobs": [["1"], ["0"], ["x"]],
    "--check": [["/dev/null"], ["/nothing.json"], ["/"]],
    **OWN_OPTIONS,
}


# --- what is broken ------------------------------------------------------------------------------


def damage(dice: random.Random, path: Path) -> str:
    """Damage a file at random; returns how."""
    content = path.read_bytes()
    place = dice.randrange(max(1, len(content)))
    kinds = ["cut", "flipped", "empty", "gone", "folder", "pipe", "noise", "zeros", "longer"]
    if path.suffix in (".json", ".jsonl"):
        kinds += ["digit"] * 9
    how = dice.choice(kinds)
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    elif how != "gone":
        flipped = bytearray(content)
        if content:
            flipped[place] ^= 1 << dice.randrange(8)
        digits = [m.start() for m in re.finditer(rb"\d", content)] or [0]
        changed = bytearray(content)
        if how == "digit" and content:
            where = dice.choice(digits)
            changed[where] = ord(dice.choice([d for d in "0123456789" if ord(d) != changed[where]]))
        path.write_bytes(
            {
                "cut": content[:place],
                "flipped": flipped,
                "empty": b"",
                "noise": content[:place] + dice.randbytes(64) + content[place + 64 :],
                "zeros": content[:place] + bytes(len(content) - place),
                "longer": content + dice.randbytes(64),
                "digit": changed,
            }[how]
        )
    return how


def odd_data(dice: random.Random, folder: Path) -> Path:
    """Data of a user's own, of a random kind, shape and type."""
    rng = np.random.default_rng(dice.randrange(2**32))
    name = dice.choice(["a", "b c", "ü", "x%&#_", "n" * 100, "64²"])
    shape = [dice.choice([1, 2, 3, 8, 20, 60]) for _ in range(dice.choice([3, 4, 4, 5, 5, 5]))]
    dtype = dice.choice(["u1", "u1", "u1", "u2", "i4", "f2", "f4", ">f4", "f8", "?", "c8"])
    array = (255 * rng.random(shape)).astype(dtype)
    kind = dice.choice(["npy", "npy", "npz", "h5", "folder", "images", "split"])
    if kind == "npy":
        np.save(folder / f"{name}.npy", np.asfortranarray(array) if dice.random() < 0.2 else array)
    elif kind == "npz":
        np.savez(folder / f"{name}.npz", **dict.fromkeys(dice.sample("xyz", 2), array))
    elif kind == "h5":
        with h5py.File(folder / f"{name}.h5", "w") as file:
            for key in dice.sample(["x", "train", "test", "time"], dice.randint(1, 3)):
                file[key] = array
    else:
        splits = ["train", "test", "val"] if kind == "split" else ["."]
        for split in splits:
            for i in range(dice.randint(1, 4)):
                place = folder / name / split
                place.mkdir(parents=True, exist_ok=True)
                if kind == "images":
                    (place / f"r{i}").mkdir()
                    for t in range(dice.randint(1, 30)):
                        pixels = (255 * rng.random((8, 8))).astype(np.uint8)
                        Image.fromarray(pixels).save(place / f"r{i}" / f"{t}.png")
                else:
                    np.save(place / f"r{i}.npy", array)
        return folder / name
    return folder / f"{name}.{kind}"


def tree(folder: Path) -> dict[str, object]:
    """Every path below a folder and what it is, content included."""
    return {
        str(path.relative_to(folder)): sha256(path) if path.is_file() else path.is_dir()
        for path in folder.rglob("*")
    }


def table(out: Path) -> list[str]:
    """The rows of the Markdown tables in an output folder, without bold and marks."""
    texts = [path.read_text() for path in (out / "tables").glob("*.md")]
    lines = [line for text in texts for line in text.splitlines() if re.match(r"\| \S", line)]
    return [re.sub(r"\*\*|<sup>.*?</sup>", "", line) for line in lines]


# --- processes -----------------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    """Processes below a process (Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            found += [(int(path.parent.name), int(fields[1]))]
    below, level = [], {pid}
    while level:
        level = {child for child, parent in found if parent in level}
        below += sorted(level)
    return below


def wait(
    process: subprocess.Popen[str],
    seconds: float,
    dice: random.Random,
    out: Path,
    until: str | None = None,
) -> None:
    """Wait so many seconds, until the process ends, or a file of the runs appears."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if until and any((out / "runs").glob(until)):
            return
        time.sleep(0.02)


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a process to end; returns what it printed. Lost if it does not."""
    try:
        return process.communicate(timeout=LONGEST)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise Lost(f"it hangs:\n{process.communicate()[0]}") from None


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    """Raise Lost in a block that takes too long."""

    def expired(number: int, frame: object) -> None:
        raise Lost("it hangs:\n" + "".join(traceback.format_stack()[-6:]))

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


KINDS: dict[str, int] = {  # how often each kind is tried, relative to the others
    "kill": 2,
    "signal": 2,
    "share": 1,
    "damage_results": 8,
    "damage_checkpoint": 2,
    "malformed_data": 20,
    "malformed_options": 12,
}


def run_campaign(
    seed: int, kinds: list[str], *, seconds: float = math.inf, most: float = math.inf
) -> int:
    """Attempt for so long, or `most` times; prints figures, returns 1 if anything was lost."""
    attempts: Counter[str] = Counter()
    lost: list[str] = []
    with tempfile.TemporaryDirectory(prefix="campaign-") as name:
        campaign = Campaign(Path(name))
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and attempts.total() < most:
            number = f"{seed}-{attempts.total()}"
            dice = random.Random(number)
            kind = dice.choices(kinds, [KINDS[kind] for kind in kinds])[0]
            attempts[kind] += 1
            out = Path(name) / f"attempt-{number}"
            attempt: Callable[[random.Random, Path], None] = getattr(campaign, kind)
            try:
                attempt(dice, out)
                check(campaign.digests() == campaign.users, "the user's files were changed")
            except Exception as error:
                text = str(error) if isinstance(error, Lost) else traceback.format_exc()
                lost.append(f"{kind}, attempt {number}: {text}")
                print(f"LOST {lost[-1]}", flush=True)
            shutil.rmtree(out, ignore_errors=True)
    for kind in sorted(attempts):
        print(f"{kind}: {attempts[kind]} attempts")
    total = attempts.total()
    print(f"{total} attempts, {total - len(lost)} survived, {len(lost)} lost something")
    return bool(lost)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to go on")
    parser.add_argument("--seed", type=int, default=0, help="of the attempts")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    for name in ("SIGINT", "SIGHUP"):  # nohup, and a shell's background, ignore them
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    sys.exit(run_campaign(options.seed, options.kinds, seconds=options.seconds))
