"""Videos of your own: the pictures that a player shows, at even steps of time, as RGB frames.

What a video says of itself is applied (colour matrix and range, rotation, the shape of pixels) or,
where its pictures would not be those that were meant, refused by name with the way to convert it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.data.cache import Findings
from benchmarks.data.display import Converter
from benchmarks.data.images import LONG_STEP, MOST_PIXELS
from benchmarks.data.layout import count
from benchmarks.data.originals import reading
from benchmarks.data.pictures import Pictures
from benchmarks.data.pyav import import_av, open_container
from benchmarks.files import check_regular

VIDEOS = {  # demuxers of FFmpeg by the file's ending
    **{".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".avi": "avi"},
    **{".mkv": "matroska", ".webm": "webm", ".gif": "gif"},
}
MOST_FRAMES, CHUNK_BYTES = 64, 1 << 24  # of a block
MOST_PAUSE = 3600  # seconds from one frame to the next; more is damage
UNREAD = 0.05  # of the time that a video declares, from which on its end is called missing
GIF_END = b";"
REMEDY = "replace or remove it"


class Probe(NamedTuple):
    """The first frame [C, H, W] of a video, and how many there may be, if it says so."""

    frame: np.ndarray
    total: int | None


def probe(path: Path, pictures: Pictures) -> Probe:
    """Look at the beginning of a video; raises what `read_video` raises there."""
    with _open(path) as stream:
        converter = Converter(path, stream)
        with closing(_decode(path, stream, Findings())) as frames:
            frame = pictures.frame(converter(next(frames)), converter.aspect)
        total, seconds = stream.frames or None, _declared_seconds(stream)
        if pictures.fps is not None:
            total = None if seconds is None else int(seconds * pictures.fps) or None
        return Probe(frame, total)


def read_video(path: Path, pictures: Pictures, findings: Findings) -> Iterator[np.ndarray]:
    """All frames of a video, in blocks [n, C, H, W] uint8, in the order in which they are shown.

    With `pictures.fps`, those that are shown at evenly spaced times, from the first frame on; a
    frame that is shown longer is repeated. A damaged video gives the frames before the damage.
    Raises ValueError if nothing can be decoded, if frames do not follow each other evenly and no
    fps is given, and for HDR, interlaced, deep and strangely turned pictures.
    """
    with _open(path) as stream, closing(_decode(path, stream, findings)) as frames:
        if (streams := len(stream.container.streams.video)) > 1:
            findings.notes.append(
                f"{path.name}: stream {stream.index} is read, of {streams} video streams"
            )
        converter, clock = Converter(path, stream), _Clock(path, stream)
        made = _made(frames, converter, clock, pictures, findings)
        first = next(made)
        size = max(1, min(MOST_FRAMES, CHUNK_BYTES // first.nbytes))
        block = [first, *islice(made, size - 1)]
        while block:
            yield np.stack(block)
            block = list(islice(made, size))
        if converter.transparent:
            findings.notes.append(f"{path.name}: transparent pixels are black")


def is_film(path: Path) -> bool:
    """Whether a .gif holds several pictures, and so is a video rather than an image."""
    with (
        reading(path, "an image", REMEDY),
        Image.open(check_regular(path), formats=("GIF",)) as image,
    ):
        return bool(getattr(image, "is_animated", False))


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """The video stream of a file that a player would choose."""
    suffix, av = path.suffix.lower(), import_av()
    with reading(path, f"a {suffix} video", REMEDY):
        try:
            with open_container(check_regular(path), VIDEOS[suffix], MOST_PIXELS) as container:
                stream = container.streams.best("video")
                if stream is None:
                    raise ValueError(f"{path} holds no video; expected a video stream: {REMEDY}")
                yield stream
        except av.FFmpegError as error:
            if isinstance(error, (OSError, MemoryError)):
                raise  # not the video's fault
            raise ValueError(error.strerror) from error  # without the path, which is told


def _decode(path: Path, stream: Any, findings: Findings) -> Generator[Any, None, None]:
    """The frames of a stream, until it ends or is damaged."""
    av, decoded, reason = import_av(), 0, ""
    last = Fraction(0)
    try:
        for frame in stream.container.decode(stream):
            if frame.is_corrupt:
                reason = "a picture is damaged"  # and so may be those that are predicted from it
                break
            decoded += 1
            last = _time(frame) or last
            yield frame
    except av.FFmpegError as error:
        if isinstance(error, (OSError, MemoryError)):
            raise  # not the video's fault
        reason = str(error.strerror)
    if not decoded:
        what = f" ({reason})" if reason else ""
        raise ValueError(f"{path} has no frame that can be decoded{what}; {REMEDY}")
    of = f" of the {stream.frames:,} that it declares" if stream.frames else ""
    if reason:
        findings.notes.append(f"{path.name}: {count(decoded, 'frame')}{of}, then {reason}")
    elif decoded < stream.frames:
        findings.notes.append(f"{path.name}: {count(decoded, 'frame')}{of} can be decoded")
    elif _is_cut(path, stream, decoded, last):
        findings.notes.append(
            f"{path.name}: it ends after {count(decoded, 'frame')}, before its declared end: it "
            "may be cut short"
        )


def _is_cut(path: Path, stream: Any, decoded: int, last: Fraction) -> bool:
    """Whether the end of a video is missing whose container does not count frames, or too few."""
    if path.suffix.lower() == ".gif":
        with path.open("rb") as file:
            file.seek(-1, 2)
            return file.read() not in (GIF_END, b"\0")
    declared = _declared_seconds(stream)
    if declared is None or stream.frames:
        return False
    shown = last - Fraction(stream.start_time or 0) * stream.time_base
    return bool(declared - shown * Fraction(decoded, max(1, decoded - 1)) > UNREAD * declared)


def _declared_seconds(stream: Any) -> Fraction | None:
    if stream.duration is not None:
        return Fraction(stream.duration * stream.time_base)
    whole = stream.container.duration
    return None if whole is None else Fraction(whole, 1_000_000)


def _time(frame: Any) -> Fraction | None:
    """When a frame is shown, in seconds."""
    stamp = frame.dts if frame.pts is None else frame.pts
    return None if stamp is None else Fraction(stamp * frame.time_base)


# --- times ---------------------------------------------------------------------------------------


class _Clock:
    """Tells when frames are shown, and refuses times that cannot be."""

    def __init__(self, path: Path, stream: Any) -> None:
        self._path, self.tick = path, Fraction(stream.time_base)
        self._before: Fraction | None = None
        self._shortest, self._longest = Fraction(MOST_PAUSE), Fraction(0)

    def read(self, frame: Any) -> Fraction | None:
        """The time of the next frame, in seconds."""
        time, before = _time(frame), self._before
        if time is not None and before is not None:
            if not 0 < time - before <= MOST_PAUSE:
                raise ValueError(
                    f"{self._path} has a frame at {float(before):.6g} s and the next one at "
                    f"{float(time):.6g} s; expected times that grow: ffmpeg -i OLD -fps_mode cfr "
                    "NEW.mp4 writes them again"
                )
            self._shortest = min(self._shortest, time - before)
            self._longest = max(self._longest, time - before)
        self._before = time
        return time

    def check_even(self) -> None:
        """Raise ValueError if steps differ by more than rounding to the container's unit."""
        rounds = 2 * self.tick <= self._shortest  # not where the unit is a frame, as in AVI
        uneven = self._longest - self._shortest > (self.tick if rounds else 0)
        if uneven and self._longest >= LONG_STEP * self._shortest:
            slow, fast = float(1 / self._longest), float(1 / self._shortest)
            raise ValueError(
                f"{self._path} has a variable frame rate, such as {slow:.4g} and {fast:.4g} frames "
                "per second; give --fps, the frames per second to take from it"
            )


def _made(
    frames: Iterator[Any],
    converter: Converter,
    clock: _Clock,
    pictures: Pictures,
    findings: Findings,
) -> Iterator[np.ndarray]:
    """Frames [C, H, W]: all that are decoded, or `pictures.fps` per second."""
    if pictures.fps is None:
        for frame in frames:
            clock.read(frame)
            clock.check_even()
            yield pictures.frame(converter(frame), converter.aspect)
        return
    repeated = 0
    for frame, times in _sampled(frames, converter.path, clock, pictures.fps):
        made = pictures.frame(converter(frame), converter.aspect)
        repeated += times - 1
        for _ in range(times):
            yield made
    if repeated:
        findings.notes.append(
            f"{converter.path.name}: {count(repeated, 'frame')} repeat the one before, as the "
            "video has none at their time"
        )


def _sampled(
    frames: Iterator[Any], path: Path, clock: _Clock, fps: Fraction
) -> Iterator[tuple[Any, int]]:
    """Frames that are shown at `fps` evenly spaced times per second, and at how many of them.

    Times are rounded to the container's unit, so a frame may come so much late.
    """
    late = min(clock.tick, 1 / (4 * fps))
    start: Fraction | None = None
    last, shown, taken = Fraction(0), None, 0
    for frame in frames:
        time = clock.read(frame)
        if time is None:
            raise ValueError(
                f"{path} does not tell the times of its frames, so fps={float(fps):.9g} has no "
                "effect; leave it out"
            )
        start = time if start is None else start
        times = 0  # at which the frame before is shown
        while start + (taken + times) / fps < time - late:
            times += 1
        if times:
            yield shown, times
            taken += times
        shown, last = frame, time
    if start is not None and start + taken / fps <= last + late:
        yield shown, 1
