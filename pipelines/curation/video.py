"""Reading one video file: frames by timestamp, as displayed.

decord indexes the file and reads clips out of it. Scoring looks at every frame and keeps few of them: that
pass is PyAV's, which gives the same pictures and converts and scales only those that are wanted.

Runs in the decoder's child process (pipelines.curation.decode), where a crash or a hang costs one source.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from pipelines.curation.decode import beat
from pipelines.curation.verdicts import reason
from pipelines.recipe import Bucket

# decord asks ffmpeg this often for a frame that does not come; its default of 10,240 is minutes of silence.
os.environ.setdefault("DECORD_EOF_RETRY_MAX", "1024")

FLOW_SHORT_SIDE_PIXELS = 128
FORMATS_WITHOUT_SEEK = ("mpegts", "mpeg")
PLAYLISTS = {"hls", "concat", "dash", "webm_dash_manifest", "sdp", "image2"}  # whatever the suffix says
LARGE_PIXELS = 2560 * 1440  # dozens of larger frames are not kept at full size
LEAST_SIDE_PIXELS = 32  # decord takes the padding of narrower rows for a fourth channel
SLOWEST_FPS, FASTEST_FPS = 0.01, 1000  # what is beyond is a broken header
TIMESTAMP_ROUNDING_SECONDS = 0.002
MATROSKA_DURATION = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)$")  # WebM's too: 00:00:10.000000000
MISSING_SHARE = 0.02
MISSING_SECONDS = 0.5


class UnreadableVideoError(Exception):
    """A source that cannot be read; its text is a reason, `code: detail`."""


class Picture:
    """A decoded frame, scaled and converted to RGB when somebody wants it."""

    def __init__(self, index: int, frame: Any, width: int, height: int) -> None:
        self.index = index
        self.size = (width, height)
        self._frame = frame
        self._quarter_turns = round(frame.rotation / 90) % 4  # counterclockwise
        if frame.width * frame.height > LARGE_PIXELS:
            self._frame = self._scaled(width, height, "AREA")

    @cached_property
    def rgb(self) -> np.ndarray:
        """(height, width, 3) uint8, as displayed."""
        return self._pixels(self._scaled(*self.size, "BICUBIC"))

    def small(self, short_side: int) -> np.ndarray:
        """(h, w, 3) uint8 RGB with that short side, if the picture is larger; in a third of the time."""
        return self._pixels(self._scaled(*shrunk(*self.size, short_side), "FAST_BILINEAR"))

    def _scaled(self, width: int, height: int, interpolation: str) -> Any:
        size = (height, width) if self._quarter_turns % 2 else (width, height)
        return _scaler(*size, interpolation).reformat(
            self._frame, *size, format="rgb24", interpolation=interpolation, threads=1
        )

    def _pixels(self, frame: Any) -> np.ndarray:
        return np.ascontiguousarray(np.rot90(frame.to_ndarray(), self._quarter_turns))


def shrunk(width: int, height: int, short_side: int) -> tuple[int, int]:
    """(width, height) with that short side, or as they are when that would be larger."""
    scale = min(1.0, short_side / min(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


@lru_cache(maxsize=8)
def _scaler(width: int, height: int, interpolation: str) -> Any:
    """ffmpeg's scaler for one size, whose tables it keeps from frame to frame."""
    from av.video.reformatter import VideoReformatter

    return VideoReformatter()


@dataclass
class Video:
    """An open video file; frames are addressed by index, index by timestamp."""

    path: str
    width: int  # as displayed
    height: int
    starts_seconds: np.ndarray  # (N,) time of each frame, the first is 0
    end_seconds: float
    _keys: np.ndarray = field(repr=False)  # (K,) indices of the key frames
    _copy: Any = field(default=None, repr=False)  # keeps the repacked file of an MPEG stream alive

    @property
    def fps(self) -> float:
        return len(self.starts_seconds) / self.end_seconds

    def shown_at(self, times_seconds: np.ndarray) -> np.ndarray:
        """(M,) indices of the frames on display at the given times.

        Timestamps are rounded, to the millisecond in Matroska: a frame that begins so soon counts.
        """
        soon = times_seconds + TIMESTAMP_ROUNDING_SECONDS
        return np.maximum(np.searchsorted(self.starts_seconds, soon, side="right") - 1, 0)

    def frames(self, indices: np.ndarray, width: int, height: int) -> Iterator[tuple[int, np.ndarray]]:
        """(index, (height, width, 3) uint8 RGB) for ascending indices, each once.

        Every frame from the key frame on is taken in turn: decord's own random access returns a wrong
        frame near the end of files with reordered frames.
        """
        import decord

        wanted = np.unique(indices)
        key = int(self._keys[self._keys <= wanted[0]].max(initial=0))
        reader = decord.VideoReader(self.path, num_threads=1, width=width, height=height)
        if key:
            reader.seek(key)
        wanted_set = set(wanted.tolist())
        for index in range(key, int(wanted[-1]) + 1):
            try:
                frame = reader.next()
            except Exception as error:  # decord has no exception class of its own for this
                raise UnreadableVideoError(_stopped(error, index, len(self.starts_seconds))) from error
            beat()
            if index in wanted_set:
                yield index, frame.asnumpy()

    def pictures(self, width: int, height: int) -> Iterator[Picture]:
        """Every frame in turn, to be had as (height, width, 3) RGB.

        The last ones that the index names may be missing (`missing_seconds`): containers list frames that are
        not to be shown. Raises UnreadableVideoError when the file ends earlier.
        """
        import av

        index, count = -1, len(self.starts_seconds)
        try:
            with av.open(self.path, metadata_errors="replace") as container:
                stream = container.streams.video[0]
                stream.codec_context.thread_count = 1
                for index, frame in enumerate(container.decode(stream)):
                    if index == count:
                        return
                    yield Picture(index, frame, width, height)
                    beat()
        except av.error.FFmpegError as error:
            raise UnreadableVideoError(_stopped(error, index + 1, count)) from error
        if index + 1 < count - self.fps * missing_seconds(self.end_seconds):
            raise UnreadableVideoError(reason("incomplete", f"{index + 1} of {count} frames"))


def open_video(path: str) -> Video:
    """Open a file and check that it is whole.

    Raises UnreadableVideoError with the reason.
    """
    import decord

    declared, container = _probe(path)
    copy = _repacked(path) if container in FORMATS_WITHOUT_SEEK else None
    path = copy.name if copy else path
    try:
        reader = decord.VideoReader(path, num_threads=1)
        count = len(reader)
        spans = reader.get_frame_timestamp(np.arange(count)).astype(np.float64)  # (N, 2)
        height, width = reader.next().shape[:2]
        keys = np.asarray(reader.get_key_indices())
    except Exception as error:  # decord raises RuntimeError, DECORDError and IndexError
        raise UnreadableVideoError(_refused(error)) from error
    if min(width, height) < LEAST_SIDE_PIXELS:
        raise UnreadableVideoError(reason("undecodable", f"{width}x{height} pixels"))
    end_seconds = float(spans[-1, 1])
    if not 0 < end_seconds * SLOWEST_FPS <= count <= max(1, end_seconds * FASTEST_FPS):
        raise UnreadableVideoError(reason("undecodable", f"{count} frames in {end_seconds:.3g} s"))
    if declared and end_seconds < declared - missing_seconds(declared):
        detail = f"frames end at {end_seconds:.2f} s of {declared:.2f} s"
        raise UnreadableVideoError(reason("incomplete", detail))
    return Video(path, int(width), int(height), spans[:, 0], end_seconds, keys, copy)


def missing_seconds(seconds: float) -> float:
    """How much less than it claims a whole file may hold."""
    return max(MISSING_SECONDS, MISSING_SHARE * seconds)


def _repacked(path: str) -> Any:
    """The video packets of a file, unchanged, in a Matroska file that can be rewound.

    decord rewinds after its first look at a file, and in an MPEG stream, which has no index, it lands on a
    later key frame: the beginning would be missing and the last frame repeated.
    """
    import av

    copy = tempfile.NamedTemporaryFile(suffix=".mkv")  # noqa: SIM115 - lives as long as the Video
    try:
        with (
            av.open(path, metadata_errors="replace") as source,
            av.open(copy.name, "w", format="matroska") as target,
        ):
            stream = source.streams.video[0]
            packed = target.add_stream_from_template(stream)
            for packet in source.demux(stream):
                if packet.dts is not None:
                    packet.stream = packed
                    target.mux(packet)
    except av.error.FFmpegError as error:
        raise UnreadableVideoError(reason("undecodable", str(error.strerror))) from error
    return copy


def _probe(path: str) -> tuple[float | None, str]:
    """(seconds that the file's header claims for its video stream, if it does; name of the container).

    Raises UnreadableVideoError for what is no video file at all.
    """
    import av

    if not os.path.isfile(path):
        raise UnreadableVideoError(reason("not_found", f"no file {os.path.basename(path)}"))
    if not os.path.getsize(path):
        raise UnreadableVideoError(reason("empty_file"))
    try:
        with av.open(path, metadata_errors="replace") as container:
            if not container.streams.video:
                kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "no"
                raise UnreadableVideoError(reason("no_video_stream", f"{kinds} streams only"))
            if set(container.format.name.split(",")) & PLAYLISTS:
                detail = f"a playlist ({container.format.name}), whose pictures are in other files"
                raise UnreadableVideoError(reason("not_a_video", detail))
            return _declared_seconds(container), container.format.name
    except av.error.FFmpegError as error:
        code = "incomplete" if _is_headless_mp4(path) else "not_a_video"
        detail = "the index (moov) is missing" if code == "incomplete" else str(error.strerror)
        raise UnreadableVideoError(reason(code, detail)) from error


def _declared_seconds(container: Any) -> float | None:
    stream = container.streams.video[0]
    claims = []
    if stream.duration:
        claims.append(float(stream.duration * stream.time_base))
    if match := MATROSKA_DURATION.match(stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = match.groups()
        claims.append(3600 * int(hours) + 60 * int(minutes) + float(seconds))
    if stream.frames and stream.average_rate:  # AVI counts its time slots, filled or not
        claims.append(stream.frames / float(stream.average_rate))
    return max(claims, default=None)


def _is_headless_mp4(path: str) -> bool:
    """An MP4 family file whose index, usually its last box, never came."""
    with open(path, "rb") as stream:
        return stream.read(12)[4:8] == b"ftyp"


def _refused(error: Exception) -> str:
    text = _plain(error)
    return reason("incomplete" if "av_read_frame" in text else "undecodable", text)


def _stopped(error: Exception, index: int, count: int) -> str:
    return reason("incomplete", f"{index} of {count} frames: {_plain(error)}")


def _plain(error: Exception) -> str:
    """decord's message without its time stamp, source line and stack."""
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return line.rpartition("] ")[2].rpartition("cc:")[2].partition(": ")[2] or line


# ---------------------------------------------------------------- clips


def clip_times(start_seconds: float, frames: int, fps: float) -> np.ndarray:
    """(frames,) times at which a clip is sampled."""
    return start_seconds + np.arange(frames) / fps


def read_clip(path: str, start_seconds: float, fps: float, buckets: tuple[Bucket, ...]) -> list[np.ndarray]:
    """A clip at the size of each bucket: [(T, H, W, 3) uint8 RGB], decoded once.

    The frame is scaled to cover the bucket and its middle is cut out.
    """
    stack = _read_stack(path, start_seconds, fps, buckets)
    return [_fitted(stack, bucket) for bucket in buckets]


def read_clip_and_flow(
    path: str,
    start_seconds: float,
    fps: float,
    buckets: tuple[Bucket, ...],
    latent_sizes: tuple[tuple[int, int], ...],
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """`read_clip` with optical flow at the latent size (height, width) of each bucket.

    [(frames (T, H, W, 3) uint8, flow (2, T−1, h, w) float32, valid (T−1, h, w) bool)]. Flow is estimated
    on the frames as decoded, once for all buckets of one aspect ratio.
    """
    from pipelines.curation.flow import latent_flow, pixel_flow

    stack = _read_stack(path, start_seconds, fps, buckets)
    flows: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]] = {}
    result = []
    for bucket, (height, width) in zip(buckets, latent_sizes, strict=True):
        part = middle(stack.shape[2], stack.shape[1], bucket.height, bucket.width)
        key = (bucket.frames, *part)
        if key not in flows:
            left, top, part_width, part_height = part
            flows[key] = pixel_flow(stack[: bucket.frames, top : top + part_height, left : left + part_width])
        result.append((_fitted(stack, bucket), *latent_flow(*flows[key], height, width)))
    return result


def _read_stack(path: str, start_seconds: float, fps: float, buckets: tuple[Bucket, ...]) -> np.ndarray:
    """(T, h, w, 3) uint8 RGB, large enough for every bucket."""
    video = open_video(path)
    indices = video.shown_at(clip_times(start_seconds, max(b.frames for b in buckets), fps))
    width, height = decode_size(video.width, video.height, buckets)
    read = dict(video.frames(indices, width, height))
    return np.stack([read[index] for index in indices])


def _fitted(stack: np.ndarray, bucket: Bucket) -> np.ndarray:
    return crop_to(stack[: bucket.frames], bucket.height, bucket.width)


def decode_size(width: int, height: int, buckets: tuple[Bucket, ...]) -> tuple[int, int]:
    """(width, height) that covers every bucket and is large enough to see motion, but no larger."""
    scale = max(cover_scale(width, height, bucket) for bucket in buckets)
    scale = max(scale, min(1.0, FLOW_SHORT_SIDE_PIXELS / min(width, height)))
    # Between the two the picture would be resampled twice for nothing.
    if 1 < 1 / scale < 1.2:
        scale = 1.0
    return round(width * scale), round(height * scale)


def cover_scale(width: int, height: int, bucket: Bucket) -> float:
    """Scale at which a frame just covers a bucket; above 1 it is enlarged."""
    return max(bucket.width / width, bucket.height / height)


def crop_to(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """(T, h, w, 3) → (T, height, width, 3): scaled to cover, middle cut out."""
    left, top, crop_width, crop_height = middle(frames.shape[2], frames.shape[1], height, width)
    return resize(frames[:, top : top + crop_height, left : left + crop_width], height, width)


def middle(frame_width: int, frame_height: int, height: int, width: int) -> tuple[int, int, int, int]:
    """(left, top, width, height) of the largest middle part with the aspect ratio height:width."""
    scale = max(width / frame_width, height / frame_height)
    crop_width = min(frame_width, round(width / scale))
    crop_height = min(frame_height, round(height / scale))
    return (frame_width - crop_width) // 2, (frame_height - crop_height) // 2, crop_width, crop_height


def resize(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """(T, h, w, 3) uint8 → (T, height, width, 3), by area when smaller."""
    import cv2

    if frames.shape[1:3] == (height, width):
        return np.ascontiguousarray(frames)
    smaller = height <= frames.shape[1] and width <= frames.shape[2]
    method = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return np.stack([cv2.resize(frame, (width, height), interpolation=method) for frame in frames])
