"""What a player shows of a video's decoded frame: its colours, upright, on black."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data.pyav import import_av

# How FFmpeg's filter names the colour matrices; untagged videos are taken as it takes them.
MATRICES = {0: "auto", 1: "bt709", 4: "fcc", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
MATRICES |= dict.fromkeys((2, 5, 6), "bt601")
RANGES = {1: "limited", 2: "full"}
# Equal on every processor, and colours at full resolution.
FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
HDR = {16: "PQ", 18: "HLG"}  # by FFmpeg's number of the transfer function
TONE_MAP = (
    "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=hable,"
    "zscale=t=bt709:m=bt709:r=tv,format=yuv420p"
)
ONE = 1 << 16  # in a display matrix
QUARTER_TURNS = ([[1, 0], [0, 1]], [[0, 1], [1, 0]])  # but for signs


class Converter:
    """Makes upright RGB pictures [3, H, W] uint8 of a stream's frames, all of one kind.

    `aspect` is the width of their pixels by their height, once one was made.
    """

    def __init__(self, path: Path, stream: Any) -> None:
        self.path, self._stream = path, stream
        self.aspect, self.transparent = Fraction(1), False
        self._kind: tuple[int, int, str] | None = None

    def __call__(self, frame: Any) -> np.ndarray:
        """The picture of the next frame."""
        kind = frame.width, frame.height, frame.format.name
        if self._kind is None:
            self._check_depth(frame)
            self._graph = self._configure(frame)
            self._matrix = self._display_matrix(frame)
            aspect = Fraction(self._stream.sample_aspect_ratio or 1)
            self.aspect = aspect if self._matrix[0, 0] else 1 / aspect
            self._kind = kind
        if kind != self._kind:
            raise ValueError(
                f"{self.path} changes from {self._kind} to {kind}; expected one size and format "
                "of its pictures: cut it there"
            )
        if frame.interlaced_frame:
            raise ValueError(
                f"{self.path} is interlaced: each picture shows two times; ffmpeg -i OLD -vf bwdif "
                "NEW.mp4 converts it"
            )
        self._graph.push(frame)
        pixels: np.ndarray = self._graph.pull().to_ndarray()
        return np.moveaxis(_turn(self._compose(pixels), self._matrix), -1, 0)

    def _check_depth(self, frame: Any) -> None:
        transfer = int(self._stream.codec_context.color_trc or 0)
        if transfer in HDR:
            raise ValueError(
                f"{self.path} is HDR ({HDR[transfer]}), whose values are not those of uint8 "
                f"frames; ffmpeg -i OLD -vf {TONE_MAP} NEW.mp4 converts it"
            )
        depth = max(component.bits for component in frame.format.components)
        if depth > 8:
            raise ValueError(
                f"{self.path} stores {depth} bits for each colour ({frame.format.name}), of which "
                "8 would be read; ffmpeg -i OLD -pix_fmt yuv420p NEW.mp4 converts it"
            )

    def _configure(self, frame: Any) -> Any:
        """FFmpeg's conversion to RGB with the frame's own matrix and range."""
        matrix = MATRICES.get(int(frame.colorspace))
        if matrix is None:
            raise ValueError(
                f"{self.path} has colours of FFmpeg's matrix {int(frame.colorspace)}; expected "
                "BT.601, BT.709 or BT.2020: ffmpeg -i OLD -vf scale=out_color_matrix=bt709 NEW.mp4"
            )
        alpha = any(component.is_alpha for component in frame.format.components)
        alpha = alpha or frame.format.has_palette
        graph = import_av().filter.Graph()
        parts = (
            graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=self._stream.time_base,
            ),
            graph.add(
                "scale",
                f"flags={FLAGS}:in_color_matrix={matrix}:"
                f"in_range={RANGES.get(int(frame.color_range), 'auto')}",
            ),
            graph.add("format", f"pix_fmts={'rgba' if alpha else 'rgb24'}"),
            graph.add("buffersink"),
        )
        graph.link_nodes(*parts).configure()
        return graph

    def _display_matrix(self, frame: Any) -> np.ndarray:
        """Rows x' = a x + c y, y' = b x + d y, as [[a, b], [c, d]]: quarter turns and mirrors."""
        found = frame.side_data.get("DISPLAYMATRIX")
        if found is None:
            return np.eye(2)
        matrix = np.frombuffer(found, np.int32, 9).reshape(3, 3)[:2, :2] / ONE
        if abs(matrix).tolist() not in QUARTER_TURNS:
            raise ValueError(
                f"{self.path} is to be shown turned or stretched, by the matrix {matrix.tolist()}"
                "; expected quarter turns: ffmpeg -display_rotation 0 -i OLD -c copy NEW.mp4"
            )
        return matrix

    def _compose(self, pixels: np.ndarray) -> np.ndarray:
        """RGB or RGBA [H, W, 3 or 4] as RGB on black."""
        if pixels.shape[-1] == 3:
            return pixels
        colours, alpha = pixels[..., :3], pixels[..., 3:]
        if alpha.min() == 255:
            return colours
        self.transparent = True
        composed: np.ndarray = ((colours.astype(np.uint16) * alpha + 127) // 255).astype(np.uint8)
        return composed


def _turn(pixels: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Pixels [H, W, C] as they are to be shown."""
    (a, b), (c, d) = matrix.tolist()
    if not a:
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    shown: np.ndarray = pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return shown
