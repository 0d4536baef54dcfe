"""What is done with each picture of an image or a video before it is stored: gray, another size."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np
from PIL import Image

MOST_FPS = 1000


class Pictures(NamedTuple):
    """How pictures become frames: of `size` (height, width), `gray`, `fps` per second of video."""

    size: tuple[int, int] | None = None
    gray: bool = False
    fps: Fraction | None = None

    @property
    def described(self) -> dict[str, str]:
        """The options that were given, as text."""
        size = {} if self.size is None else {"size": f"{self.size[0]}x{self.size[1]}"}
        gray = {"gray": "yes"} if self.gray else {}
        return size | gray | ({} if self.fps is None else {"fps": f"{float(self.fps):.9g}"})

    def frame(self, picture: np.ndarray, aspect: Fraction = Fraction(1)) -> np.ndarray:
        """The frame [C, H, W] of a picture [C, H, W], uint8 or float32.

        `aspect` is the width of its pixels by their height; frames have square ones.
        """
        if self.gray and len(picture) == 3:
            picture = np.asarray(_image(picture).convert("L"))[None]
        size = self.size
        if size is None and aspect != 1:
            height, width = picture.shape[1:]
            size = height, max(1, round(width * aspect))
        return picture if size is None else fit(picture, size, float(aspect))


def parse_fps(fps: float) -> Fraction:
    """Frames per second; raises ValueError for a number that cannot be one."""
    if not 0 < fps <= MOST_FPS:
        raise ValueError(f"fps is {fps}; expected frames per second, above 0 and up to {MOST_FPS}")
    return Fraction(str(fps))


def fit(picture: np.ndarray, size: tuple[int, int], aspect: float = 1.0) -> np.ndarray:
    """The middle of a picture [C, H, W] in another size: scaled to cover it, the excess cropped.

    Antialiased (Pillow's bilinear filter, in integers for uint8, so equal on every machine). The
    pixels of the picture are `aspect` times as wide as high, those of the result are square.
    """
    (height, width), (tall, wide) = picture.shape[1:], size
    scale = max(tall / height, wide / (width * aspect))
    kept = min(height, tall / scale), min(width, wide / (scale * aspect))  # rows, columns
    top, left = (height - kept[0]) / 2, (width - kept[1]) / 2
    box = left, top, min(left + kept[1], width), min(top + kept[0], height)

    def resize(image: Image.Image) -> np.ndarray:
        return np.asarray(image.resize((wide, tall), Image.Resampling.BILINEAR, box=box))

    if picture.dtype == np.uint8 and len(picture) == 3:
        return np.moveaxis(resize(_image(picture)), -1, 0)
    return np.stack([resize(Image.fromarray(channel)) for channel in picture])


def _image(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(np.moveaxis(picture, 0, -1)))
