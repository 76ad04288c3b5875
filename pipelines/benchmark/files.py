"""Films of the labelled test set as real files, in the containers and at the rates that stock video has."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from pipelines.benchmark.studio import Film

CODECS = {".mp4": "libx264", ".mkv": "libx264", ".mov": "libx264", ".avi": "mpeg4"}


def write_film(path: Path, film: Film) -> Path:
    """Encode a film beside `path`, with the film's own suffix; returns where it is."""
    path = path.with_name(path.name + film.suffix)
    codec = CODECS[film.suffix]
    quality = (
        {"crf": str(film.crf), "preset": "veryfast"} if codec == "libx264" else {"qscale": str(film.crf // 4)}
    )
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(
            codec, rate=Fraction(film.fps).limit_denominator(1001), options=quality
        )
        stream.height, stream.width = film.frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # the same bytes on every machine
        for frame in film.frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path
