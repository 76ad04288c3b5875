import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from modeling.guidance import guidance_branches, guide
from modeling.image_features import image_tokens
from modeling.latents import decode_latents, encode_pixels
from modeling.pipeline import FactorizedDreamerPipeline
from modeling.schedule import NoiseSchedule
from modeling.windows import frame_windows

WORDS = ["<pad>", "</s>", "<unk>", "moves", "left", "right", "the", "star"]


def clip_tokenizer():
    letters = "abcdefghijklmnopqrstuvwxyz,."
    vocabulary = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(vocabulary)}, merges=[], model_max_length=12)


def t5_tokenizer():
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")


@pytest.fixture
def pipeline(video_unet, awaken):
    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 8),
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=0.5,
    )
    tokenizer = clip_tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=12,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    motion = T5Config(vocab_size=len(WORDS), d_model=12, d_kv=6, d_ff=16, num_layers=1, num_heads=2)
    vision = CLIPVisionConfig(
        hidden_size=20,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    pipe = FactorizedDreamerPipeline(
        unet=awaken(video_unet()).eval(),
        vae=vae.eval(),
        text_encoder=CLIPTextModel(text).eval(),
        tokenizer=tokenizer,
        scheduler=NoiseSchedule().to_diffusers_scheduler("ddim"),
        motion_encoder=T5EncoderModel(motion).eval(),
        motion_tokenizer=t5_tokenizer(),
        image_encoder=CLIPVisionModelWithProjection(vision).eval(),
        image_token_count=9,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, prompt="a red star", motion_prompt="the star moves left", **settings):
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    settings = {"image": image, "num_frames": 3, "num_inference_steps": 3, **settings}
    return pipe(prompt, motion_prompt, generator=torch.Generator().manual_seed(1), **settings)


def test_it_draws_videos_in_range_and_repeats_them_for_a_generator(pipeline):
    output = draw(pipeline)
    assert output.frames.shape == (1, 3, 32, 32, 3)
    assert output.frames.dtype == np.float32
    assert (output.frames.min() >= 0) & (output.frames.max() <= 1)
    assert np.array_equal(output.frames, draw(pipeline).frames)


def test_each_step_is_told_and_may_be_changed(pipeline):
    told = []

    def callback(pipe, step, timestep, tensors):
        told.append((step, timestep, tuple(tensors["latents"].shape)))
        return {"latents": torch.zeros_like(tensors["latents"])} if step == 2 else {}

    output = draw(pipeline, callback_on_step_end=callback, output_type="latent")
    assert [step for step, _, _ in told] == [0, 1, 2]
    assert told[0][1] == 999
    assert not output.frames.any()


def test_save_and_load_is_bit_exact_and_without_pickle(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    assert {file.suffix for file in tmp_path.rglob("*") if file.is_file()} <= {
        ".json",
        ".safetensors",
        ".txt",
    }
    again = FactorizedDreamerPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert np.array_equal(draw(pipeline).frames, draw(again).frames)
    assert again.config.image_token_count == 9


@pytest.mark.parametrize("left_out", [["image_encoder"], ["motion_encoder", "motion_tokenizer"]])
def test_a_model_that_needs_no_image_or_motion_encoder_loads_without_one(pipeline, left_out, tmp_path):
    pipeline.register_modules(**dict.fromkeys(left_out))
    pipeline.save_pretrained(tmp_path)
    again = FactorizedDreamerPipeline.from_pretrained(tmp_path)
    assert [getattr(again, name) for name in left_out] == [None] * len(left_out)


def test_every_argument_changes_the_video(pipeline):
    before = draw(pipeline, output_type="latent").frames
    for change in (
        {"prompt": "blue"},
        {"motion_prompt": "the star moves right"},
        {"motion_prompt": None},
        {"image": torch.zeros(1, 3, 32, 32)},
        {"image": None},
        {"fps": 24.0},
        {"motion_score": 3.0},
        {"guidance_scale_text": 2.0},
        {"guidance_scale_image": 2.0},
        {"guidance_rescale": 0.0},
        {"image_noise": 0.5},
    ):
        after = draw(pipeline, **{"output_type": "latent", **change}).frames
        assert (after - before).abs().max() > 1e-4, change


def test_a_batch_of_prompts_and_images_is_drawn_at_once(pipeline):
    images = [np.full((40, 64, 3), shade, dtype=np.uint8) for shade in (0, 255)]
    output = draw(pipeline, prompt=["a", "b"], motion_prompt=["left", "right"], image=images)
    assert output.frames.shape == (2, 3, 32, 32, 3)
    assert np.abs(output.frames[0] - output.frames[1]).max() > 0.01
    assert output.image.shape == (2, 32, 32, 3)


def test_a_video_does_not_depend_on_its_neighbours(pipeline):
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    both = pipeline(
        ["a red star", "b"],
        ["the star moves left", "left right left right star"],
        image=torch.cat((image, torch.zeros_like(image))),
        num_frames=3,
        num_inference_steps=3,
        generator=generators,
        output_type="latent",
    )
    alone = draw(pipeline, output_type="latent")
    torch.testing.assert_close(both.frames[:1], alone.frames, atol=2e-3, rtol=0)


def test_without_an_image_the_text_to_image_pipeline_draws_it(pipeline, image_unet):
    pipeline.text_to_image = StableDiffusionPipeline(
        vae=pipeline.vae,
        text_encoder=pipeline.text_encoder,
        tokenizer=pipeline.tokenizer,
        unet=image_unet(),
        scheduler=NoiseSchedule().to_diffusers_scheduler("ddim"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.text_to_image.set_progress_bar_config(disable=True)
    output = draw(pipeline, image=None, text_to_image_arguments={"num_inference_steps": 2})
    assert output.image.shape == (1, 32, 32, 3)
    again = draw(pipeline, image=torch.from_numpy(output.image).permute(0, 3, 1, 2))
    assert again.frames.shape == output.frames.shape


def test_without_a_motion_prompt_the_splitter_makes_it(pipeline):
    split = draw(
        pipeline, "a red star, the star moves left", None, motion_splitter=lambda text: text.split(", ")
    )
    assert np.array_equal(split.frames, draw(pipeline).frames)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 36, "width": 32}, "multiples of 8"),
        ({"motion_prompt": ["a", "b"]}, "2 motion prompts for 1"),
        ({"image": torch.zeros(2, 3, 32, 32)}, "2 images for 1"),
        ({"image": torch.full((1, 3, 32, 32), 2.0)}, r"0\.\.1"),
        ({"output_type": "gif"}, "output_type"),
    ],
)
def test_bad_arguments_are_named(pipeline, change, message):
    with pytest.raises(ValueError, match=message):
        draw(pipeline, **change)


@pytest.mark.parametrize(
    ("text", "image", "has_image", "evaluations"),
    [
        (7.5, 1.0, True, 2),
        (7.5, 2.0, True, 3),
        (1.0, 1.0, True, 1),
        (7.5, 1.0, False, 2),
        (1.0, 2.0, True, 3),
    ],
)
def test_guidance_follows_its_formula_with_as_few_evaluations_as_it_needs(
    text, image, has_image, evaluations
):
    branches = guidance_branches(text, image, has_image=has_image)
    assert len(branches) == evaluations
    values = {
        key: torch.randn(2, 4, 3, 8, 8)
        for key in ((True, True), (True, False), (False, True), (False, False))
    }
    guided = guide([values[branch[:2]] for branch in branches], branches, rescale=0.0)
    full, no_text, none = values[True, has_image], values[False, has_image], values[False, False]
    torch.testing.assert_close(
        guided, none + image * (no_text - none) + text * (full - no_text), atol=1e-5, rtol=0
    )


def test_full_rescale_gives_the_deviation_of_the_conditioned_prediction():
    branches = guidance_branches(9.0, 1.0, has_image=True)
    predictions = [torch.randn(2, 4, 3, 8, 8), torch.randn(2, 4, 3, 8, 8)]
    guided = guide(predictions, branches, rescale=1.0)
    torch.testing.assert_close(guided.flatten(1).std(1), predictions[0].flatten(1).std(1))


def test_image_tokens_are_pooled_on_their_grid(pipeline):
    images = torch.rand(2, 3, 48, 64)
    tokens = image_tokens(pipeline.image_encoder, images, 4)
    all_tokens = image_tokens(pipeline.image_encoder, images, 64)
    assert tokens.shape == (2, 4, 20)
    assert all_tokens.shape == (2, 16, 20)
    quarter = all_tokens.unflatten(1, (4, 4))[:, :2, :2].mean((1, 2))
    torch.testing.assert_close(tokens[:, 0], quarter)


# ---------------------------------------------------------------- longer videos


@pytest.mark.parametrize(
    ("frames", "window", "overlap", "expected"),
    [
        (5, 8, 2, [(0, 5)]),
        (8, 8, 9, [(0, 8)]),
        (14, 8, 2, [(0, 8), (6, 14)]),
        (17, 8, 2, [(0, 8), (6, 14), (9, 17)]),
        (4, 2, 1, [(0, 2), (1, 3), (2, 4)]),
    ],
)
def test_windows_cover_the_video_and_overlap(frames, window, overlap, expected):
    assert frame_windows(frames, window, overlap) == expected


@pytest.mark.parametrize("overlap", [0, 4])
def test_windows_that_cannot_continue_are_refused(pipeline, overlap):
    with pytest.raises(ValueError, match="must overlap by 1 to 3"):
        draw(pipeline, num_frames=9, window_frames=4, overlap_frames=overlap)


def level_of(timestep):
    """(√ᾱ, √(1 − ᾱ)) of the pipeline's schedule."""
    bar = NoiseSchedule().alphas_cumprod[int(timestep)]
    return bar.sqrt(), (1 - bar).sqrt()


@pytest.mark.parametrize("kind", ["ddim", "dpmsolver++", "unipc"])
def test_a_longer_video_is_continued_from_what_was_drawn(pipeline, kind, monkeypatch):
    """Each window keeps the frames that it shares, and has the first of them as its image."""
    pipeline.scheduler = NoiseSchedule().to_diffusers_scheduler(kind)
    calls = []
    forward = type(pipeline.unet).forward

    def recorded(unet, latents, *arguments, **conditions):
        calls.append((latents[:1], conditions["image_latents"][:1]))
        return forward(unet, latents, *arguments, **conditions)

    monkeypatch.setattr(type(pipeline.unet), "forward", recorded)
    settings = {"window_frames": 4, "overlap_frames": 2, "output_type": "latent"}
    video = draw(pipeline, num_frames=7, **settings).frames
    assert video.shape[2] == 7
    assert torch.isfinite(video).all()
    assert [latents.shape[2] for latents, _ in calls] == [4] * 9  # 3 windows of 3 steps
    # The last window begins at frame 3 and not at 4, for it ends with the video.
    signal, sigma = (x.item() for x in level_of(pipeline.scheduler.timesteps[1]))
    for (noise, image), (noisy, _), start in zip(calls[3::3], calls[4::3], (2, 3), strict=True):
        assert torch.equal(image[0], video[0, :, start])
        shared = (noisy - sigma * noise) / signal  # step 0 has (almost) nothing but noise
        torch.testing.assert_close(shared[0, :, :2], video[0, :, start : start + 2], atol=1e-2, rtol=0)
    shorter = draw(pipeline, num_frames=4, **settings).frames
    assert torch.equal(shorter, draw(pipeline, num_frames=4, output_type="latent").frames)


# ---------------------------------------------------------------- as diffusers' users know it


def test_half_precision_draws_nearly_the_same(pipeline):
    exact = draw(pipeline).frames
    rough = draw(pipeline.to(torch.bfloat16)).frames
    assert rough.dtype == np.float32
    assert np.abs(rough - exact).mean() < 0.05


def test_slices_of_the_vae_draw_the_same(pipeline):
    whole = draw(pipeline, decode_chunk_frames=None).frames
    pipeline.vae.enable_slicing()
    sliced = draw(pipeline, decode_chunk_frames=None).frames
    assert np.abs(sliced - whole).max() < 1e-5
    assert np.abs(draw(pipeline, decode_chunk_frames=1).frames - whole).max() < 1e-5


def test_a_vae_that_is_offloaded_runs_where_it_is_told(pipeline):
    """As under enable_model_cpu_offload on a GPU, for which torch's meta device stands here."""
    from accelerate import cpu_offload_with_hook

    device = torch.device("meta")
    cpu_offload_with_hook(pipeline.vae, execution_device=device)
    mean, _ = encode_pixels(pipeline.vae, torch.rand(2, 3, 32, 32), device)
    assert next(pipeline.vae.parameters()).device == device
    assert decode_latents(pipeline.vae, mean, chunk=1, device=device).device == device
