from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.media import MediaError, contact_sheet, enlarge, read_mp4, video_grid, write_gif, write_mp4


def moving_square(frames: int = 8, height: int = 48, width: int = 64) -> np.ndarray:
    ys, xs = np.mgrid[:height, :width]
    ground = np.stack([60 + 0 * xs, 90 + ys, 120 + xs // 2], -1).astype(np.uint8)
    video = np.repeat(ground[None], frames, 0)
    for t, frame in enumerate(video):
        frame[16:28, 8 + 4 * t : 20 + 4 * t] = (200, 80, 60)
    return video


def test_mp4_gives_back_its_frames_and_rate(tmp_path: Path) -> None:
    video = moving_square()
    path = write_mp4(tmp_path / "deep" / "video.mp4", video, 12.5)
    frames, fps = read_mp4(path)
    assert frames.shape == video.shape
    assert fps == pytest.approx(12.5)
    assert 10 * np.log10(255**2 / np.mean((frames.astype(float) - video) ** 2)) > 32
    assert [p.name for p in path.parent.iterdir()] == ["video.mp4"]


def test_mp4_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    first, second = (write_mp4(tmp_path / f"{n}.mp4", moving_square(), 8).read_bytes() for n in range(2))
    assert first == second


def test_odd_sizes_are_padded_by_their_last_row_and_column(tmp_path: Path) -> None:
    video = moving_square(3, 47, 61)
    frames, _ = read_mp4(write_mp4(tmp_path / "odd.mp4", video, 8))
    assert frames.shape == (3, 48, 62, 3)
    assert np.abs(frames[:, :47, :61].astype(int) - video).mean() < 4


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    frames, _ = read_mp4(write_mp4(tmp_path / "one.mp4", moving_square(1), 8))
    assert len(frames) == 1


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (4, 8, 8), (4, 8, 8, 4)])
def test_frames_of_another_shape_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(T, H, W, 3\) uint8"):
        write_mp4(tmp_path / "bad.mp4", np.zeros(shape, np.uint8), 8)


def test_a_file_that_is_no_video_is_named(tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("not a video at all")
    with pytest.raises(MediaError, match=r"text\.mp4"):
        read_mp4(path)
    with pytest.raises(FileNotFoundError):
        read_mp4(tmp_path / "nothing.mp4")


def test_gif_plays_all_frames_enlarged(tmp_path: Path) -> None:
    path = write_gif(tmp_path / "video.gif", moving_square(), 8, height_pixels=96)
    with Image.open(path) as gif:
        assert (gif.size, gif.n_frames) == ((128, 96), 8)
        assert gif.info["duration"] == 120
        assert gif.info["loop"] == 0


def test_icons_keep_their_pixels_when_enlarged() -> None:
    icon = np.zeros((1, 2, 2, 3), np.uint8)
    icon[0, 0, 0] = 255
    big = enlarge(icon, 8)
    assert set(np.unique(big)) == {0, 255}
    assert big[0, :4, :4].min() == 255


def test_contact_sheet_has_a_row_per_video_with_its_first_and_last_frame(tmp_path: Path) -> None:
    video = moving_square(16)
    rows = [("A red square slides to the right", video), ("The same square, once more", video[::-1])]
    path = contact_sheet(tmp_path / "sheet.png", rows, frames_per_row=4, frame_height_pixels=48)
    sheet = np.asarray(Image.open(path)).astype(int)
    assert sheet.shape[1] == 12 * 2 + 4 * 64 + 3 * 3  # margins, frames, gaps
    found = [
        number
        for number in range(len(sheet) - 48)
        if np.array_equal(sheet[number : number + 48, 12:76], video[0])
    ]
    last = [
        number
        for number in range(len(sheet) - 48)
        if np.array_equal(sheet[number : number + 48, 12:76], video[-1])
    ]
    assert len(found) == len(last) == 1
    assert found[0] < last[0]
    caption = sheet[12 : found[0], 12:-12]
    assert (caption.min(-1) < 60).sum() > 100  # ink


def test_a_long_caption_is_wrapped_and_ends_in_an_ellipsis(tmp_path: Path) -> None:
    short, long = ("word " * 3, "word " * 300)
    heights = []
    for caption in (short, long):
        path = contact_sheet(tmp_path / "sheet.png", [(caption, moving_square())], frames_per_row=3)
        heights.append(Image.open(path).height)
    assert heights[1] - heights[0] == 2 * 19


def test_columns_fill_the_sheet_from_left_to_right(tmp_path: Path) -> None:
    rows = [(str(n), moving_square()) for n in range(3)]
    one = Image.open(contact_sheet(tmp_path / "one.png", rows)).size
    two = Image.open(contact_sheet(tmp_path / "two.png", rows, columns=2)).size
    assert two[0] > 1.9 * one[0]
    assert two[1] < one[1]


def test_grid_plays_videos_of_different_lengths_and_can_be_written(tmp_path: Path) -> None:
    grid = video_grid(
        [("long", moving_square(8)), ("short", moving_square(3))], columns=2, frame_height_pixels=49
    )
    assert grid.shape[0] == 8
    assert grid.shape[1] % 2 == grid.shape[2] % 2 == 0
    assert np.array_equal(grid[2][:, -70:], grid[7][:, -70:])  # the short one holds its last frame
    assert not np.array_equal(grid[2], grid[7])
    write_mp4(tmp_path / "grid.mp4", grid, 8)


def test_nothing_to_show_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet(tmp_path / "sheet.png", [])
    with pytest.raises(ValueError, match="at least one"):
        video_grid([])
