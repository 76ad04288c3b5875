from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.evaluation.generate import draw_clips, generator_of, load_pipeline
from pipelines.evaluation.prompts import (
    Artist,
    GenerationError,
    Request,
    find_model,
    generate,
    read_requests,
)
from pipelines.evaluation.reference import EvaluationClip, select_clips
from pipelines.media import read_mp4
from pipelines.recipe import Recipe, SamplingSettings


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
    asked = [Request("A red star moves left", seed=seed) for seed in (5, 6)]
    made = generate(asked, model=run, out=tmp_path, steps=2)
    one, two = made["videos"]
    frames, fps = read_mp4(Path(one["video"]))
    assert (frames.shape, fps) == ((8, 32, 32, 3), 8)
    assert not np.array_equal(frames, read_mp4(Path(two["video"]))[0])
    for file in (one["gif"], two["gif"], made["contact_sheet"]):
        assert Path(file).is_file()
    assert "star" in one["appearance"]
    assert "left" in one["motion"]


def test_a_model_of_whole_captions_is_given_the_whole_prompt_as_motion(run: Path) -> None:
    folder, recipe = find_model(run)
    artist = Artist(folder, recipe)
    asked = Request("A red star moves left over grass")
    assert artist.captions(asked)[1] == "star moves left"
    captions = recipe.curation.captions.model_copy(update={"motion": "whole"})
    artist.recipe = recipe.model_copy(
        update={"curation": recipe.curation.model_copy(update={"captions": captions})}
    )
    assert artist.captions(asked)[1] == "A red star moves left over grass"
    assert artist.captions(Request("A red star", "it moves"))[1] == "it moves"


def given_image(folder: Path) -> Path:
    path = folder / "given.png"
    Image.new("RGB", (50, 40), (200, 30, 30)).save(path)
    return path


def test_image_and_motion_to_video(run: Path, tmp_path: Path) -> None:
    asked = Request("A red wall", "It falls", given_image(tmp_path))
    made = generate([asked], model=run, out=tmp_path, steps=2)["videos"][0]
    assert made["motion"] == "It falls"
    frames, _ = read_mp4(Path(made["video"]))
    assert len(frames) == 8


def test_a_video_may_be_longer_than_the_model_s(run: Path, tmp_path: Path) -> None:
    asked = Request("A red wall", "It falls", given_image(tmp_path))
    made = generate([asked], model=run, out=tmp_path, steps=2, frames=18)["videos"][0]
    assert len(read_mp4(Path(made["video"]))[0]) == 18


def test_a_file_of_prompts_gives_the_videos_that_each_gives_alone(run: Path, tmp_path: Path) -> None:
    given_image(tmp_path)
    table = tmp_path / "prompts.csv"
    table.write_text(
        "prompt,motion,image,seed\nA red star moves left,,,\nA wall,It falls,given.png,\n"
        "A wall,It falls,given.png,9\nA red star moves left,,,\n"
    )
    requests = read_requests(table, seed=3)
    assert [request.seed for request in requests] == [3, 3, 9, 3]
    made = generate(requests, model=run, out=tmp_path / "all", steps=2, batch_videos=2)["videos"]
    assert [video["prompt"] for video in made] == [request.prompt for request in requests]
    assert len({video["video"] for video in made}) == 4
    alone = generate(requests[2:3], model=run, out=tmp_path / "alone", steps=2)["videos"][0]
    frames = [read_mp4(Path(video["video"]))[0].astype(int) for video in (*made, alone)]
    assert np.abs(frames[2] - frames[4]).max() <= 4  # of what mp4 keeps
    assert np.abs(frames[0] - frames[3]).max() <= 4
    assert np.abs(frames[1] - frames[2]).max() > 10


def test_prompts_are_read_from_lines_and_tables(tmp_path: Path) -> None:
    lines = tmp_path / "prompts.txt"
    lines.write_text("A star, red\n\nA moon\n")
    assert [one.prompt for one in read_requests(lines)] == ["A star, red", "A moon"]
    rows = tmp_path / "prompts.jsonl"
    rows.write_text('{"prompt": "A star", "motion": "It turns", "seed": 4}\n{"prompt": "A moon"}\n')
    assert read_requests(rows, seed=1) == [Request("A star", "It turns", seed=4), Request("A moon", seed=1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no prompts"),
        ("caption\nA star\n", "no column 'prompt'; it has caption"),
        ("prompt,seed\nA star,1\n ,2\n", "row 2: the prompt is empty"),
        (
            "prompt,image\nA star,/etc/hostname\n",
            "row 1: the image /etc/hostname is no file in",
        ),
        ("prompt,image\nA star,../star.png\n", "row 1: the image ../star.png is no file in"),
        ("prompt,image\nA star,http://127.0.0.1/star.png\n", "row 1: the image http.* is no file in"),
        ("prompt,seed\nA star,one\n", "row 1: the seed 'one' is no whole number"),
    ],
)
def test_a_file_of_prompts_that_cannot_be_read_is_named(tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "prompts.csv"
    table.write_text(text)
    with pytest.raises(GenerationError, match=message):
        read_requests(table)


def test_what_cannot_be_drawn_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no model in"):
        generate([Request("a star")], model=tmp_path, out=tmp_path)
    with pytest.raises(GenerationError, match="prompt is empty"):
        generate([Request("  ")], model=run, out=tmp_path)
    text = tmp_path / "text.png"
    text.write_text("no picture")
    with pytest.raises(GenerationError, match=r"text\.png is not a picture"):
        generate([Request("a star", image=text)], model=run, out=tmp_path)
