"""PyAV, imported where videos are read or written, and how it opens files."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def import_av() -> Any:
    """The package PyAV; raises ModuleNotFoundError that says how to install it."""
    try:
        import av
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("videos need PyAV: pip install av") from error
    return av


def open_container(path: Path, demuxer: str, most_pixels: int) -> Any:
    """Open a video file; close it, or use it as a context manager.

    It is read by one demuxer alone, as another one, such as that of playlists, could open other
    files. A frame of more than `most_pixels` is damage. Raises what PyAV raises.
    """
    av = import_av()
    options = {"max_pixels": str(most_pixels)}
    # Before version 19, PyAV raises at a title in another encoding than UTF-8 unless it is told so.
    old = int(av.__version__.partition(".")[0]) < 19
    titles: dict[str, Any] = {"metadata_errors": "ignore"} if old else {}
    # Absolute, as it is a URL otherwise.
    container = av.open(str(path.absolute()), format=demuxer, options=options, **titles)
    for stream in container.streams.video:
        stream.codec_context.options = options
    return container
