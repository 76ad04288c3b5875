from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.evaluation.generate import GenerationError, draw_clips, generate, generator_of, load_pipeline
from pipelines.evaluation.reference import EvaluationClip, select_clips
from pipelines.layout import RunLayout
from pipelines.media import read_mp4
from pipelines.recipe import Recipe, SamplingSettings


@pytest.fixture
def run(evaluation_recipe: Recipe) -> Path:
    """A run directory as `dreamer run` leaves it."""
    layout = RunLayout(Path(evaluation_recipe.run_directory))
    layout.recipe.write_text(evaluation_recipe.model_dump_json())  # JSON is YAML
    return layout.root


def test_a_clip_s_video_does_not_depend_on_what_is_drawn_beside_it(
    run: Path, evaluation_recipe: Recipe
) -> None:
    clips: list[EvaluationClip] = select_clips(evaluation_recipe)[:3]
    pipeline = load_pipeline(run / "train" / "low" / "model", "ddim")
    images = [np.full((32, 32, 3), 60 * n, np.uint8) for n in range(3)]
    sampling = SamplingSettings(steps=2, guidance_scale_text=2.0, guidance_rescale=0.0)
    together = draw_clips(pipeline, clips, images, sampling, seed=3)
    alone = draw_clips(pipeline, clips[2:], images[2:], sampling, seed=3)
    assert np.abs(together[2].astype(int) - alone[0]).max() <= 1
    other_seed = draw_clips(pipeline, clips[2:], images[2:], sampling, seed=4)
    assert np.abs(other_seed[0].astype(int) - alone[0]).max() > 10
    assert generator_of(3, "a").initial_seed() != generator_of(3, "b").initial_seed()


@pytest.mark.parametrize("scheduler", ["ddim", "dpmsolver++", "unipc"])
def test_every_sampler_draws_finite_frames(run: Path, scheduler: str) -> None:
    pipeline = load_pipeline(run / "train" / "low" / "model", scheduler)
    latents = pipeline(
        "a red star", num_frames=4, height=32, width=32, num_inference_steps=3, output_type="latent"
    ).frames
    assert torch.isfinite(latents).all()


def test_prompt_to_image_to_video_writes_mp4_gif_and_contact_sheet(run: Path, tmp_path: Path) -> None:
    made = generate("A red star moves left", model=run, out=tmp_path, count=2, steps=2, seed=5)
    frames, fps = read_mp4(Path(made["video_5"]))
    assert (frames.shape, fps) == ((8, 32, 32, 3), 8)
    assert not np.array_equal(frames, read_mp4(Path(made["video_6"]))[0])
    for key in ("gif_5", "gif_6", "contact_sheet"):
        assert Path(made[key]).is_file()
    assert "star" in made["appearance"]
    assert "left" in made["motion"]


def test_image_and_motion_to_video(run: Path, tmp_path: Path) -> None:
    image = tmp_path / "given.png"
    Image.new("RGB", (50, 40), (200, 30, 30)).save(image)
    made = generate("A red wall", motion="It falls", image=image, model=run, out=tmp_path, steps=2)
    assert made["motion"] == "It falls"
    assert len(read_mp4(Path(made["video"]))[0]) == 8


def test_what_cannot_be_drawn_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no model in"):
        generate("a star", model=tmp_path, out=tmp_path)
    with pytest.raises(GenerationError, match="prompt is empty"):
        generate("  ", model=run, out=tmp_path)
    text = tmp_path / "text.png"
    text.write_text("no picture")
    with pytest.raises(GenerationError, match=r"text\.png is not a picture"):
        generate("a star", image=text, model=run, out=tmp_path)
