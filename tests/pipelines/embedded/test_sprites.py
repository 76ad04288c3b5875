import csv
import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from pipelines.embedded.render import exact_flow, render_clip
from pipelines.embedded.sprites import make_sprites
from pipelines.embedded.wording import caption
from pipelines.embedded.world import DEFAULT_MOTIONS, WorldSettings, clips_of_images, world_clips


def read_table(folder: Path) -> list[dict[str, str]]:
    with (folder / "sprites.csv").open() as stream:
        return list(csv.DictReader(stream))


def combinations(rows: list[dict[str, str]], held_out: bool) -> set[tuple[str, str, str]]:
    chosen = [row for row in rows if row["split"].startswith("held_out") == held_out]
    return {(s["shape"], s["colour"], s["motion"]) for row in chosen for s in json.loads(row["sprites"])}


def test_the_table_names_real_h264_files(sprites: Path) -> None:
    rows = read_table(sprites)
    assert len(rows) == 32
    for row in rows[:4]:
        with av.open(str(sprites / row["contentUrl"])) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert (stream.width, stream.height, stream.average_rate) == (96, 96, 16)
            assert sum(1 for _ in container.decode(stream)) == 16


def test_held_out_combinations_never_occur_in_training() -> None:
    settings = WorldSettings(clips=3000, held_out_clips=500)
    training, held_out = set(), set()
    for clip in world_clips(settings):
        chosen = held_out if clip.split.startswith("held_out") else training
        chosen.update((s.shape, s.colour, s.motion) for s in clip.sprites)
    assert not training & held_out
    assert len(training) > 300
    assert len(held_out) > 40


def test_every_motion_is_equally_frequent_and_starts_alike() -> None:
    clips = [c for c in world_clips(WorldSettings(clips=2400, two_sprites_share=0)) if c.split == "train"]
    starts = {
        m: np.array([(s.x, s.y) for c in clips for s in c.sprites if s.motion == m]) for m in DEFAULT_MOTIONS
    }
    assert {len(found) for found in starts.values()} == {300}
    for found in starts.values():
        np.testing.assert_allclose(found.mean(0), 0.5, atol=0.02)


def test_a_clip_depends_on_seed_split_and_place_only() -> None:
    small, large = (list(world_clips(WorldSettings(clips=n, seed=5))) for n in (10, 40))
    assert small[:10] == large[:10]
    first_held_out = [next(c for c in clips if c.split == "held_out") for clips in (small, large)]
    assert first_held_out[0].sprites == first_held_out[1].sprites
    assert small != list(world_clips(WorldSettings(clips=10, seed=6)))


@pytest.mark.parametrize("camera", ["still", "pan_right"])
def test_exact_flow_carries_each_frame_to_the_next(camera: str) -> None:
    settings = WorldSettings(clips=60, two_sprites_share=0, pan_share=0.5)
    clip = next(c for c in world_clips(settings) if c.camera == camera and c.sprites[0].motion == "right")
    progresses = np.linspace(0, 1, 8)
    frames = render_clip(clip, progresses, 96)
    flow = exact_flow(clip, progresses, 96)
    assert flow.shape == (7, 2, 96, 96)
    ys, xs = np.mgrid[:96, :96].astype(np.float32)
    for now, then, (dx, dy) in zip(frames[:-1], frames[1:], flow, strict=True):
        brought_back = cv2.remap(then, xs + dx, ys + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        inside = (xs + dx >= 0) & (xs + dx <= 95) & (ys + dy >= 0) & (ys + dy <= 95)
        error = np.abs(brought_back.astype(float) - now)[inside].mean()
        unmoved = np.abs(then.astype(float) - now)[inside].mean()
        assert error < 0.5 * unmoved


def test_crossing_sprites_are_apart_first_and_over_each_other_halfway() -> None:
    settings = WorldSettings(clips=40, two_sprites_share=1, crossing=True, held_out_two_clips=20)
    pairs = [clip.sprites for clip in world_clips(settings) if len(clip.sprites) == 2]
    assert len(pairs) == 60 + settings.validation_clips
    for pair in pairs:
        (x, y, _), (other_x, other_y, _) = (sprite.at(0.5) for sprite in pair)
        assert np.hypot(x - other_x, y - other_y) < 1e-9
        assert np.hypot(pair[0].x - pair[1].x, pair[0].y - pair[1].y) > 0.03
        assert all(0 < place < 1 for sprite in pair for place in (sprite.x, sprite.y))


def test_detail_and_light_change_the_picture_and_not_the_words() -> None:
    plain, strong, lit = (
        next(world_clips(WorldSettings(clips=1, detail=detail, light_spread=spread)))
        for detail, spread in ((1, 0), (4, 0), (1, 0.5))
    )
    pictures = [render_clip(clip, np.zeros(1), 96).astype(float) for clip in (plain, strong, lit)]
    assert pictures[1].std() > 1.1 * pictures[0].std()
    assert abs(pictures[1].mean() / pictures[0].mean() - 1) < 0.1
    assert pictures[2].mean() / pictures[0].mean() == pytest.approx(lit.light, rel=0.05)
    assert abs(lit.light - 1) > 0.05
    assert caption(plain) == caption(strong) == caption(lit)
    np.testing.assert_array_equal(
        exact_flow(plain, np.linspace(0, 1, 3), 32), exact_flow(lit, np.linspace(0, 1, 3), 32)
    )


def test_captions_name_sprites_and_camera() -> None:
    for clip in world_clips(WorldSettings(clips=100, held_out_two_clips=10, held_out_pan_clips=10)):
        words = caption(clip).lower()
        assert all(sprite.colour in words and sprite.shape in words for sprite in clip.sprites)
        assert ("camera pans" in words) == (clip.camera != "still")


def test_watermark_and_compression_change_the_picture(tmp_path: Path) -> None:
    sizes = {"validation_clips": 0, "held_out_clips": 0, "held_out_two_clips": 0, "held_out_pan_clips": 0}
    plain = make_sprites(tmp_path / "plain", WorldSettings(clips=1, **sizes), flow=False, processes=1).parent
    rough = make_sprites(
        tmp_path / "rough", WorldSettings(clips=1, crf=45, **sizes), flow=False, processes=1
    ).parent
    clip = next(world_clips(WorldSettings(clips=1)))
    marked = render_clip(clip, np.zeros(1), 96, watermark="SPRITESTOCK")
    assert np.abs(marked.astype(int) - render_clip(clip, np.zeros(1), 96)).max() > 40
    assert (rough / "videos/train-000000.mp4").stat().st_size < 0.6 * (
        plain / "videos/train-000000.mp4"
    ).stat().st_size


def test_unknown_motions_are_refused() -> None:
    with pytest.raises(ValueError, match="explode"):
        WorldSettings(motions=("left", "explode"))


def test_each_image_has_a_caption_of_every_motion_and_is_the_first_frame_of_them_all(sprites: Path) -> None:
    with (sprites / "images.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    by_image: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_image.setdefault(row["image"], []).append(row)
    assert len(by_image) == WorldSettings().images
    for image, group in by_image.items():
        assert cv2.imread(str(sprites / image)).shape == (96, 96, 3)
        labels = [json.loads(row["sprites"])[0] for row in group]
        assert {label["motion"] for label in labels} == set(DEFAULT_MOTIONS)
        assert len({row["motion"] for row in group}) == len(DEFAULT_MOTIONS)
        assert len({row["prompt"] for row in group}) == 1  # which says nothing of motion
    first = {
        render_clip(clip, np.zeros(1), 96).tobytes() for clip in clips_of_images(WorldSettings(images=1))
    }
    assert len(first) == 1
