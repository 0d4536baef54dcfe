"""Human3.6M (Ionescu et al., TPAMI 2014) as STRPM and OpenSTL use it: 4 frames to 4, 10 a second.

Frames are read from the user's own image files as they are needed; nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.data.array_file import CHANGED, ChangedError, check_stamps
from benchmarks.data.dataset import SAMPLE, Check
from benchmarks.data.originals import check_readable, open_image
from benchmarks.data.sources import Source, find, missing_files
from benchmarks.data.stored import StoredDataset, evenly_spaced, smaller
from benchmarks.files import Stamp, sha256
from tau.predictor import Clip

FOLDERS = ("human36m", "human", "Human3.6M", "h36m", "")
LISTS = ("train.txt", "test.txt")
SIDE = 256
VIDEO = 10**6  # more than any video has frames
STEP = 5  # of the 50 frames per second, every fifth
SPAN = 70  # frames from the first to the last that a line of a list names
MOST = SPAN // STEP + 1
VALIDATION, TEST = ("S8",), ("S9", "S11")  # subjects
LISTED, VIDEOS, SHARED = {"train.txt": 73_404, "test.txt": 8_582}, 838, 8_483
REMEDY = "write it again"


class Listed(NamedTuple):
    """A line of a list: the path of a video's frames without their number, and the first frame."""

    video: str
    first: int

    @property
    def subject(self) -> str:
        """The person, such as S1."""
        return PurePosixPath(self.video).name.partition("_")[0]


def read_list(path: Path) -> list[Listed]:
    """Clips of train.txt or test.txt, with lines such as images/S1_Eating.54138969_,1276,1346.

    Raises ValueError that names the file and line.
    """
    found = []
    with check_readable(path).open(encoding="latin-1") as file:
        for number, line in enumerate(file, 1):
            if not (text := line.strip()):
                continue
            match = re.fullmatch(r"((?:[\w.-]+/)*S\d+_[\w. -]+),(\d{1,6}),(\d{1,6})", text)
            if match is None or ".." in match[1] or int(match[3]) - int(match[2]) != SPAN:
                raise ValueError(
                    f"{path}, line {number}: {text[:60]!r}; expected a path, a first frame, and a "
                    f"last one {SPAN} later, as in images/S1_Eating.54138969_,1276,1346; {REMEDY}"
                )
            found.append(Listed(match[1], int(match[2])))
    if not found:
        raise ValueError(f"{path} names no clip; expected thousands; {REMEDY}")
    return found


def read_frame(path: Path) -> np.ndarray:
    """A frame [3, 256, 256] uint8, RGB; other sizes are resized bicubically, as by cv2.resize."""
    with check_readable(path).open("rb") as file:
        image = np.moveaxis(np.asarray(open_image(file, path, ("JPEG",), REMEDY)), -1, 0)
    if image.shape[1:] == (SIDE, SIDE):
        return image
    pixels = torch.from_numpy(image.copy())[None].float()
    resized = F.interpolate(pixels, size=(SIDE, SIDE), mode="bicubic", align_corners=False)
    frame: np.ndarray = resized[0].round().clamp(0, 255).to(torch.uint8).numpy()
    return frame


class Clips:
    """Clips of the lists in `folder`, whose frames are read from their files: 5 frames apart.

    `length` frames of each are used. Raises FileNotFoundError or the like for the first that is no
    file to be read.
    """

    def __init__(
        self, folder: Path, clips: Sequence[Listed], lists: Sequence[Path], length: int
    ) -> None:
        videos = sorted({clip.video for clip in clips})
        numbers = {video: number for number, video in enumerate(videos)}
        self.folder, self.videos = folder.absolute(), videos
        self.places = np.array([(numbers[c.video], c.first) for c in clips], np.int32)
        self.stamps = {path.absolute(): Stamp.of(path) for path in lists}
        self.length = length
        self._stamped = self._frame_stamps()  # an error now, not hours after training began

    def __len__(self) -> int:
        return len(self.places)

    def paths(self, index: int, length: int) -> list[Path]:
        """The files of the first `length` frames of a clip."""
        video, first = self.places[index]
        return [
            self.folder / f"{self.videos[video]}{first + STEP * n:06}.jpg" for n in range(length)
        ]

    def read(self, index: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
        """The first `length` frames of the clips in `index`: [B, length, 3, 256, 256] uint8."""
        clips = [[read_frame(path) for path in self.paths(i, length)] for i in index]
        return np.array(clips, np.uint8)

    def stretches(self, index: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
        """Places [N, 2] of the first and last frame, as if each video followed the one before."""
        video, first = self.places[index].astype(np.int64).T
        place = video * VIDEO + first
        return np.stack([place, place + STEP * (length - 1)], axis=1)

    def check_unchanged(self) -> None:
        """Raise ChangedError if a list, or the file of a frame, is no longer what it was."""
        check_stamps(self.stamps)
        try:
            unchanged = self._frame_stamps() == self._stamped
        except OSError:
            unchanged = False
        if not unchanged:
            raise ChangedError(f"a frame below {self.folder} {CHANGED}")

    def content(self) -> str:
        """SHA-256 of the names and sizes of the frames' files, and of the content of some."""
        frames = self._frames()
        digest = hashlib.sha256()
        for path in frames:
            name = path.relative_to(self.folder).as_posix()
            digest.update(f"{name} {path.stat().st_size}\n".encode("latin-1"))
        for index in evenly_spaced(SAMPLE, len(frames)):
            digest.update(frames[index].read_bytes())
        return digest.hexdigest()

    def _frames(self) -> list[Path]:
        paths = (path for index in range(len(self)) for path in self.paths(index, self.length))
        return list(dict.fromkeys(paths))

    def _frame_stamps(self) -> str:
        """SHA-256 of all frames' stamps; raises OSError for the first that cannot be read."""
        digest = hashlib.sha256()
        for path in self._frames():
            digest.update(repr(Stamp.of(check_readable(path))).encode())
        return digest.hexdigest()


class Human36M(StoredDataset):
    """Human3.6M: 4 frames to 4, 10 a second, [3, 256, 256] RGB, from image files and two lists.

    `root` or its folder human36m holds train.txt, test.txt and the .jpg files that they name. The
    lists cut training and test clips from the same videos, and nearly all test clips share frames
    with training clips. With `by_subject`, the clips of both lists are split by the person instead:
    S9 and S11 for test, which share nothing with the others. In either case S8's are for validation
    and not trained on.

    OpenSTL reads blue, green and red in this order, which LPIPS alone tells. Raises
    FileNotFoundError, which says where frames come from, if files are missing, and ValueError as
    `read_list` and `read_frame` do.
    """

    name = "human36m"
    clip = Clip(4, 4, 3, SIDE, SIDE)
    is_prepared = False
    source: ClassVar[Source] = Source(
        name=name,
        title="Human3.6M: persons in a studio, from your own image files",
        licence="academic use, by an agreement that you sign; nobody may pass frames on",
        size="two lists, and the frames of 838 videos as JPEG files",
        needs=tuple(
            tuple(f"{folder}/{name}" if folder else name for folder in FOLDERS) for name in LISTS
        ),
        manual=(
            "Register at http://vision.imar.ro/human3.6m and sign its agreement. Save the videos' "
            "frames (50 per second) as DIR/human36m/images/S1_Directions.54138969_000001.jpg and "
            "so on. OpenSTL has the lists: put train.txt and test.txt into DIR/human36m."
        ),
    )

    def __init__(
        self,
        root: Path | None = None,
        *,
        past: int = 4,
        future: int = 4,
        downsample: int = 1,
        by_subject: bool = False,
    ) -> None:
        clip = Clip(past, future, 3, SIDE, SIDE)
        smaller(clip, downsample)
        if clip.frames > MOST:
            raise ValueError(f"past and future are {clip.frames} frames; a clip has {MOST}")
        if root is None or self.source.missing(root):
            raise FileNotFoundError(f"{missing_files(self.source, root)}. {self.source.manual}")
        lists = [path for name in LISTS if (path := find(root, FOLDERS, name)) is not None]
        folder = lists[0].parent
        if folder != lists[-1].parent:
            raise ValueError(
                f"{' and '.join(map(str, lists))} are in two folders; expected both, and the "
                f"frames that they name, in {root / FOLDERS[0]}"
            )
        self._listed = {path.name: read_list(path) for path in lists}
        splits = {
            split: Clips(folder, clips, lists, clip.frames)
            for split, clips in _divide(self._listed, by_subject).items()
        }
        super().__init__(
            self.name,
            clip,
            train=splits["train"],
            validation=splits["validation"],
            test=splits["test"],
            downsample=downsample,
            provenance={
                **{f"{path.stem}_list_sha256": sha256(path) for path in lists},
                **{f"{split}_frames_sha256": clips.content() for split, clips in splits.items()},
                "split": "subjects" if by_subject else "lists",
            },
            caption=self._caption(splits, by_subject),
        )

    def checks(self) -> list[Check]:
        """Clips, videos, and test clips that share frames: what the real lists give."""
        train, test = (self._listed[name] for name in LISTS)
        return [
            *(Check(f"clips in {name}", LISTED[name], len(self._listed[name])) for name in LISTS),
            Check("videos", VIDEOS, len({clip.video for clip in (*train, *test)})),
            Check("test clips that share frames with training clips", SHARED, shared(train, test)),
        ]

    def _caption(self, splits: Mapping[str, Clips], by_subject: bool) -> str:
        counts = (
            f"trained on {len(splits['train']):,} clips, S8's {len(splits['validation']):,} for "
            f"validation; tested on {len(splits['test']):,}"
        )
        if by_subject:
            return f"Human3.6M, split by subject: {counts} of {' and '.join(TEST)}."
        train, test = (self._listed[name] for name in LISTS)
        return (
            f"Human3.6M, the field's lists: {counts}. Both lists cut clips from the same videos: "
            f"{shared(train, test):,} of {len(test):,} test clips share frames with clips of the "
            "training list, so scores do not tell how models do on persons that they have not seen."
        )


def _divide(listed: Mapping[str, Sequence[Listed]], by_subject: bool) -> dict[str, list[Listed]]:
    """The clips of each split (see `Human36M`)."""
    train, test = (list(listed[name]) for name in LISTS)
    if by_subject:
        train, test = (
            [clip for clip in train + test if (clip.subject in TEST) == wanted]
            for wanted in (False, True)
        )
    return {
        "train": [clip for clip in train if clip.subject not in VALIDATION],
        "validation": [clip for clip in train if clip.subject in VALIDATION],
        "test": sorted(test, key=lambda clip: (clip.video, clip.first)),  # see `overlap`
    }


def shared(train: Sequence[Listed], test: Sequence[Listed], frames: int = 8) -> int:
    """How many of the clips `test` have a frame that is in one of the clips `train`."""
    seen = {(clip.video, clip.first + STEP * n) for clip in train for n in range(frames)}
    return sum(
        any((clip.video, clip.first + STEP * n) in seen for n in range(frames)) for clip in test
    )
