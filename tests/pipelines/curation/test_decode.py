"""Decoding: what each kind of file ends as, and that the frames are the right ones."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from pipelines.curation.decode import DecoderError, DecoderProcess
from pipelines.curation.score import ScoringSettings, score_video
from pipelines.curation.video import decode_size, open_video, read_clip
from pipelines.recipe import Bucket, DecodeSettings, ShotSettings

SCORING = ScoringSettings(fps=8, clip_frames=(8,), short_side_pixels=64, shots=ShotSettings(), text=False)
MakeVideo = Callable[..., Path]
MakeScene = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecoderProcess]:
    with DecoderProcess(DecodeSettings(timeout_seconds=30)) as process:
        yield process


def ends_as(decoder: DecoderProcess, path: Path) -> str:
    with pytest.raises(DecoderError) as caught:
        decoder.call(score_video, str(path), SCORING)
    return f"{caught.value.verdict} {caught.value.reason}"


def cut_in_half(path: Path) -> Path:
    half = path.with_stem(path.stem + "_half")
    half.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return half


def audio_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        for number in range(10):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.rate, frame.pts = 16000, 1024 * number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_bad_files_fail_with_what_is_wrong(
    decoder: DecoderProcess, tmp_path: Path, make_video: MakeVideo, make_scene: MakeScene
) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("not a video " * 50)
    assert ends_as(decoder, tmp_path / "none.mp4").startswith("failed not_found")
    assert ends_as(decoder, tmp_path / "empty.mp4").startswith("failed empty_file")
    assert ends_as(decoder, tmp_path / "text.mp4").startswith("failed not_a_video: Invalid data")
    assert (
        ends_as(decoder, audio_only(tmp_path / "audio.mp4")) == "failed no_video_stream: audio streams only"
    )
    noisy = np.random.default_rng(0).integers(0, 255, make_scene(0, 48).shape, np.uint8)
    index_last = make_video(tmp_path / "last.mp4", noisy)
    index_first = make_video(tmp_path / "first.mp4", noisy, movflags="faststart")
    assert ends_as(decoder, cut_in_half(index_last)).startswith(
        "failed incomplete: the index (moov) is missing"
    )
    assert ends_as(decoder, cut_in_half(index_first)).startswith("failed incomplete")
    matroska = make_video(tmp_path / "v.mkv", noisy)
    assert ends_as(decoder, cut_in_half(matroska)).startswith("failed incomplete: frames end at")


def test_a_playlist_brings_in_no_other_file(
    decoder: DecoderProcess, tmp_path: Path, make_video: MakeVideo, make_scene: MakeScene
) -> None:
    film = make_video(tmp_path / "film.mp4", make_scene(0, 16))
    head, line = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\n", film.as_uri()
    for name in ("hls.mp4", "hls.m3u8"):
        (tmp_path / name).write_text(f"{head}{line}\n#EXT-X-ENDLIST\n")
        assert ends_as(decoder, tmp_path / name).startswith("failed not_a_video")
    (tmp_path / "concat.mp4").write_text("ffconcat version 1.0\nfile film.mp4\n")
    assert ends_as(decoder, tmp_path / "concat.mp4").startswith("failed not_a_video: a playlist (concat)")


@pytest.mark.parametrize(
    ("function", "timeout_seconds", "why"),
    [
        ("crash", 60, "decoder_crashed: signal 11"),
        ("hang", 4, "decoder_timeout: 4 s"),
        ("grow", 60, "decoder_memory"),
    ],
)
def test_a_decoder_that_dies_is_replaced(
    function: str,
    timeout_seconds: float,
    why: str,
    tmp_path: Path,
    make_video: MakeVideo,
    make_scene: MakeScene,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The child finds what it is told to call by module and name.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.syspath_prepend(Path(__file__).parent)
    misbehaving = importlib.import_module("misbehaving")
    video = make_video(tmp_path / "v.mp4", make_scene(0, 24))
    settings = DecodeSettings(timeout_seconds=timeout_seconds, max_memory_gb=1)
    with DecoderProcess(settings) as process:
        with pytest.raises(DecoderError) as caught:
            process.call(getattr(misbehaving, function))
        assert caught.value.verdict == "quarantined"
        assert caught.value.reason.startswith(why)
        assert process.clip(str(video), 0, 8, 8, 32, 32).shape == (8, 32, 32, 3)


def test_a_decoder_that_died_idle_costs_no_source(
    tmp_path: Path, make_video: MakeVideo, make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = str(make_video(tmp_path / "v.mp4", make_scene(0, 24)))
    with DecoderProcess() as process:
        assert process.clip(video, 0, 8, 8, 32, 32).shape == (8, 32, 32, 3)
        child = process._child
        assert child is not None
        child.kill()
        child.wait()
        with monkeypatch.context() as patch:  # as if it died after the look whether it lives
            patch.setattr(child, "poll", lambda: None)
            assert process.clip(video, 0, 8, 8, 32, 32).shape == (8, 32, 32, 3)


def test_a_machine_that_goes_off_is_not_blamed_on_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.syspath_prepend(Path(__file__).parent)
    misbehaving = importlib.import_module("misbehaving")
    with DecoderProcess() as process:
        assert process.call(misbehaving.told_to_end) == "whole"


def test_a_fault_of_the_program_is_not_blamed_on_the_file(decoder: DecoderProcess) -> None:
    with pytest.raises(RuntimeError, match="decode_size failed in the decoder process"):
        decoder.call(decode_size, "not a number", 8, ())


def counting_frames(count: int) -> np.ndarray:
    """(T, 64, 64, 3): frame number t has grey level 4 t."""
    return np.broadcast_to((4 * np.arange(count, dtype=np.uint8))[:, None, None, None], (count, 64, 64, 3))


@pytest.mark.parametrize("fps", [12, 24, 30, 60])
def test_frames_are_sampled_by_timestamp(
    fps: int, decoder: DecoderProcess, tmp_path: Path, make_video: MakeVideo
) -> None:
    video = make_video(tmp_path / "v.mp4", counting_frames(60), fps=fps)
    clip = decoder.clip(str(video), 0.25, 6, 8, 64, 64)
    shown = clip.mean((1, 2, 3)) / 4
    expected = np.floor((0.25 + np.arange(6) / 8) * fps + 1e-6)
    assert np.abs(shown - expected).max() < 0.5


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_as_displayed(
    rotation: int, decoder: DecoderProcess, tmp_path: Path, make_video: MakeVideo, make_scene: MakeScene
) -> None:
    frames = make_scene(3, 16, height=64, width=96)
    video = make_video(tmp_path / "v.mp4", frames, rotation=str(rotation), crf="10")
    turned = np.rot90(frames, rotation // 90, axes=(1, 2))
    height, width = turned.shape[1:3]
    rows = decoder.call(score_video, str(video), SCORING)
    assert (rows[0]["width"], rows[0]["height"]) == (width, height)
    clip = decoder.clip(str(video), 0, 8, 16, height, width)
    assert np.abs(clip.astype(int) - turned[:8]).mean() < 12


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        ("mp4", "libx264"),
        ("webm", "libvpx"),
        ("ts", "libx264"),
        ("mpg", "mpeg2video"),
        ("avi", "mpeg4"),
        ("mp4", "libx265"),
    ],
)
def test_clips_from_the_middle_are_the_frames_read_in_turn(
    suffix: str,
    codec: str,
    decoder: DecoderProcess,
    tmp_path: Path,
    make_video: MakeVideo,
    make_scene: MakeScene,
) -> None:
    frames = make_scene(5, 64, height=98, width=130)
    video = make_video(tmp_path / f"v.{suffix}", frames, codec=codec)
    for start in (0, 20, 56):
        clip = decoder.clip(str(video), start / 16, 8, 16, 98, 130)
        error = np.abs(clip.astype(int) - frames[start : start + 8]).mean((1, 2, 3))
        shifted = np.abs(clip[1:].astype(int) - frames[start : start + 7]).mean((1, 2, 3))
        assert error.max() < 16
        assert error[1:].mean() < shifted.mean()


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("mp4", {"rotation": "90"}),
        ("mp4", {"rotation": "180"}),
        ("mov", {"pixels": "yuv420p10le"}),
        ("mkv", {"pixels": "yuv444p"}),
        ("mpg", {"codec": "mpeg2video"}),
        ("avi", {"codec": "mpeg4"}),
    ],
)
def test_scoring_sees_the_frames_that_clips_are_made_of(
    suffix: str, options: dict[str, str], tmp_path: Path, make_video: MakeVideo, make_scene: MakeScene
) -> None:
    scene = make_scene(5, 40, height=66, width=130)
    video = open_video(str(make_video(tmp_path / f"v.{suffix}", scene, fps=25, **options)))
    pictures = list(video.pictures(video.width, video.height))
    clips = dict(video.frames(np.arange(40), video.width, video.height))
    assert [picture.index for picture in pictures] == list(range(40)) == list(clips)
    for number, picture in enumerate(pictures[1:-1], 1):
        near = [np.abs(picture.rgb.astype(int) - clips[number + step]).mean() for step in (-1, 0, 1)]
        assert near[1] < min(8, near[0], near[2])
        small = picture.small(32)
        assert min(small.shape[:2]) == 32
        assert small.shape[0] * video.width == pytest.approx(small.shape[1] * video.height, rel=0.03)


def test_large_frames_wait_at_scoring_size(
    tmp_path: Path, make_video: MakeVideo, make_scene: MakeScene
) -> None:
    """Dozens of frames wait for the next cut: of 8K footage they would fill gigabytes."""
    video = open_video(str(make_video(tmp_path / "v.mp4", make_scene(5, 3, height=1600, width=2400))))
    clips = dict(video.frames(np.arange(3), 384, 256))
    for picture in video.pictures(384, 256):
        assert picture._frame.width == 384
        assert np.abs(picture.rgb.astype(int) - clips[picture.index]).mean() < 8


def test_variable_frame_rate_and_a_single_frame(
    decoder: DecoderProcess, tmp_path: Path, make_video: MakeVideo
) -> None:
    path = tmp_path / "variable.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=100)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number, hundredths in enumerate((0, 10, 15, 50, 90, 100, 130, 200)):
            frame = av.VideoFrame.from_ndarray(counting_frames(8)[number] * 5, format="rgb24")
            frame.pts = hundredths
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    video = open_video(str(path))
    assert video.shown_at(np.array([0, 0.12, 0.4, 0.6, 1.25, 1.99])).tolist() == [0, 1, 2, 3, 5, 6]
    one = make_video(tmp_path / "one.mp4", counting_frames(1))
    (row,) = decoder.call(score_video, str(one), SCORING)
    assert row["verdict"] == "filtered"
    assert row["reason"].startswith("too_short")


def test_a_bucket_takes_the_middle_of_the_frame(tmp_path: Path, make_video: MakeVideo) -> None:
    frames = np.zeros((8, 64, 128, 3), np.uint8)
    frames[:, :, 32:96] = 255
    video = make_video(tmp_path / "v.mp4", frames)
    square, wide = read_clip(
        str(video), 0, 16, (Bucket(frames=4, height=32, width=32), Bucket(frames=8, height=32, width=64))
    )
    assert square.shape == (4, 32, 32, 3)
    assert square.mean() > 245
    assert 100 < wide.mean() < 160


def test_answers_are_plain_data(
    decoder: DecoderProcess, tmp_path: Path, make_video: MakeVideo, make_scene: MakeScene
) -> None:
    rows: list[dict[str, Any]] = decoder.call(
        score_video, str(make_video(tmp_path / "v.mp4", make_scene(0, 24))), SCORING
    )
    assert len(rows) == 1
    assert rows[0]["text_area"] is None
    assert rows[0]["motion_score"] > 0
    assert (rows[0]["start_seconds"], rows[0]["end_seconds"], rows[0]["shot_end_seconds"]) == (0, 1, 1.5)


def test_a_header_that_claims_more_frames_is_not_believed(
    decoder: DecoderProcess, tmp_path: Path, make_video: MakeVideo, make_scene: MakeScene
) -> None:
    video = make_video(tmp_path / "v.avi", make_scene(0, 24), codec="mpeg4")
    content = video.read_bytes()
    length = content.index(b"strh") + 8 + 32  # dwLength of the stream header
    assert int.from_bytes(content[length : length + 4], "little") == 24
    (tmp_path / "lies.avi").write_bytes(
        content[:length] + (444).to_bytes(4, "little") + content[length + 4 :]
    )
    end = ends_as(decoder, tmp_path / "lies.avi")
    assert end == "failed incomplete: frames end at 1.50 s of 27.75 s"


@pytest.mark.parametrize(("height", "width"), [(97, 131), (33, 47)])
def test_odd_sizes(
    height: int, width: int, decoder: DecoderProcess, tmp_path: Path, make_video: MakeVideo
) -> None:
    coarse = np.random.default_rng(0).integers(0, 255, (1, 4, 4, 3), np.uint8)[0]
    frames = np.repeat(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)[None], 20, 0)
    video = make_video(tmp_path / "видео 影片.mkv", frames, codec="ffv1", pixels="yuv444p")
    (row,) = decoder.call(score_video, str(video), SCORING)
    assert (row["width"], row["height"]) == (width, height)
    clip = decoder.clip(str(video), 0, 8, 8, height, width)
    assert np.abs(clip.astype(int) - frames[:8]).mean() < 4


def test_what_is_too_narrow_to_decode_fails(
    decoder: DecoderProcess, tmp_path: Path, make_video: MakeVideo
) -> None:
    frames = np.zeros((20, 240, 24, 3), np.uint8)
    video = make_video(tmp_path / "v.mkv", frames, codec="ffv1", pixels="yuv444p")
    assert ends_as(decoder, video) == "failed undecodable: 24x240 pixels"
