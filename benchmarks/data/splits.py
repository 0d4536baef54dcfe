"""Training, validation and test sequences of your own data, by their names or the last tenths."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import PurePosixPath
from typing import NamedTuple

from benchmarks.data.array_file import ArrayFile
from benchmarks.data.layout import count as counted
from benchmarks.data.recordings import Recording, Sequences, Stored, Windows, cut

ONE_IN = 10  # one sequence, or recording, or frame in ten is for test, and one for validation
WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# The same as part of a name: X_train, testset, val-01.
NEAR = re.compile(
    rf"(?<![a-z])({'|'.join(sorted(WORDS, key=len, reverse=True))})(?:set|data)?(?![a-z])",
    re.IGNORECASE,
)


class Splits(NamedTuple):
    """Sequences to train on, to validate on and to test on."""

    train: Stored
    validation: Stored
    test: Stored


def split_of(name: str) -> str | None:
    """The split that a part of a path such as `Train/r0.npy` names, if any.

    Raises ValueError if the parts name two.
    """
    path = PurePosixPath(name.lower())
    found = {WORDS[part] for part in (*path.parts[:-1], path.name, path.stem) if part in WORDS}
    if len(found) > 1:
        raise ValueError(f"{name} is in {' and in '.join(sorted(found))}; expected one split")
    return found.pop() if found else None


def without_split(name: str) -> str:
    """What is left of a name such as `train/frames` or `X_train` without its split."""
    parts = [part for part in name.split("/") if part.lower() not in WORDS]
    return "/".join(NEAR.sub("", part).strip("_-. ") for part in parts)


def told_splits(names: Iterable[str]) -> dict[str, str]:
    """The split of each name that tells one.

    Where no part of a path is a split's word, words in it count if train and another are there.
    """
    names = list(names)
    told = {name: split for name in names if (split := split_of(name)) is not None}
    if told:
        return told
    found = {name: {WORDS[word.lower()] for word in NEAR.findall(name)} for name in names}
    near = {name: splits.pop() for name, splits in found.items() if len(splits) == 1}
    return near if {"train"} < set(near.values()) else {}


def divide(where: str, names: Collection[str]) -> dict[str, str]:
    """The split of each name; none if no name tells one, or all tell `train`.

    Raises ValueError if some tell a split and some do not, or train or test is missing.
    """
    told = told_splits(names)
    if set(told.values()) <= {"train"} and len(told) in (0, len(names)):
        return {}
    if strays := [name for name in names if name not in told]:
        name, split = next(iter(told.items()))
        raise ValueError(
            f"{where}: {strays[0]} is in no split, but {name} is in {split}; expected everything "
            "below train, test and perhaps val: move or rename it"
        )
    check_division(where, told.values())
    return told


def check_division(where: str, splits: Collection[str]) -> None:
    """Raise ValueError unless there is a training and a test split."""
    if missing := [split for split in ("train", "test") if split not in splits]:
        raise ValueError(
            f"{where} has {' and '.join(sorted(set(splits)))}, but no {' and no '.join(missing)}; "
            "expected train, test and perhaps val"
        )


def split_sequences(name: str, arrays: Mapping[str, ArrayFile]) -> tuple[Splits, str]:
    """Whole sequences [N, T, C, H, W] of each split, or of one array, and by which rule.

    Raises ValueError if there are too few.
    """
    train = next(iter(arrays.values()))
    end = len(train)
    held = max(1, end // ONE_IN)
    held_out: dict[str, Stored] = {}
    for split in ("test", "validation"):  # from the end
        if split in arrays:
            held_out[split] = Sequences(arrays[split], 0, len(arrays[split]))
        else:
            held_out[split] = Sequences(train, end - held, end)
            end -= held
    if end < 1:
        raise ValueError(
            f"{name} has {len(train)} sequences to set apart; expected at least "
            f"{len(train) - end + 1}: give more sequences"
        )
    return Splits(Sequences(train, 0, end), **held_out), _rule(
        arrays, "the last tenth of sequences"
    )


def _lengths(recordings: Sequence[Recording]) -> str:
    """How many recordings there are, and of how many frames."""
    ends = sorted({recording.length for recording in recordings}) or [0]
    lengths = " to ".join(map(str, dict.fromkeys((ends[0], ends[-1]))))
    return f"{counted(len(recordings), 'recording')} of {lengths} frame{'s' * (ends[-1] != 1)}"


def split_recordings(
    name: str,
    arrays: Mapping[str, ArrayFile],
    recordings: Mapping[str, Sequence[Recording]],
    past: int,
    future: int,
    stride: int | None,
) -> tuple[Splits, str]:
    """Windows of the recordings of each split, or of all, and by which rule they are set apart.

    No window lies in two splits. Raises ValueError if none fits into one of them.
    """
    if past < 1 or future < 1:
        raise ValueError(f"past is {past} and future is {future}; expected positive numbers")
    stride = past + future if stride is None else stride
    rest = recordings.get("train", next(iter(recordings.values())))
    count = len({recording.name for recording in rest}) // ONE_IN
    rule = _rule(recordings, f"the last tenth of {'recordings' if count else 'each recording'}")
    parts: dict[str, Sequence[Recording]] = {}
    for split in ("test", "validation"):  # from the end
        if split in recordings:
            parts[split] = recordings[split]
        else:
            rest, parts[split] = hold_out(rest, count)
    windows = {}
    for split, of in {"train": rest, **parts}.items():
        starts = cut(of, past + future, stride)
        if not len(starts):
            raise ValueError(
                f"{name}: no window of past={past} + future={future} frames fits into what is "
                f"left for {split}, {_lengths(of)} ({rule}); give longer recordings, or a smaller "
                "--past or --future"
            )
        windows[split] = Windows(arrays.get(split, next(iter(arrays.values()))), starts)
    return Splits(**windows), f"windows of {past + future} frames, {stride} apart, {rule}"


def _rule(given: Collection[str], tenth: str) -> str:
    if "test" not in given:
        return f"{tenth} for test, the one before for validation"
    return "test as given, " + (
        "validation as given" if "validation" in given else f"{tenth} of train for validation"
    )


def hold_out(
    recordings: Sequence[Recording], count: int
) -> tuple[list[Recording], list[Recording]]:
    """Set the last `count` recordings apart, or, if 0, the last tenth of the frames of each.

    What has one name is one recording, in pieces where frames are missing.
    """
    whole = [list(pieces) for _, pieces in groupby(recordings, key=lambda r: r.name)]
    rest: list[Recording] = []
    held: list[Recording] = []
    for place, pieces in enumerate(whole):
        total = sum(piece.length for piece in pieces)
        kept = total - max(1, total // ONE_IN)
        if count:
            kept = total if place < len(whole) - count else 0
        for piece in pieces:
            first, start = min(kept, piece.length), piece.start
            tail = Recording(piece.name, piece.first + first, start + first, piece.length - first)
            rest += [piece._replace(length=first)] if first else []
            held += [tail] if tail.length else []
            kept -= first
    return rest, held
