import itertools

import pytest
import torch
from diffusers import UNet2DConditionModel

from modeling.unet import FactorizedUNet

PARTS = ("temporal", "motion_encoder", "image_conditioning", "adapter", "pixel_attention", "predict_net")


def frame_by_frame(image, latents, timesteps, text):
    """What the image model gives for each frame alone."""
    with torch.no_grad():
        frames = [image(x, timesteps, text).sample for x in latents.unbind(2)]
    return torch.stack(frames, dim=2)


def call(unet, latents, timesteps, text, **conditions):
    with torch.no_grad():
        return unet(latents, timesteps, text, **conditions)


def batch(frames=3, size=(8, 8), clips=2, text_dim=24):
    return (
        torch.randn(clips, 4, frames, *size),
        torch.tensor([3, 900])[:clips],
        torch.randn(clips, 7, text_dim),
    )


@pytest.mark.parametrize("frames", [1, 8, 16])
@pytest.mark.parametrize("given", [True, False])
def test_the_untrained_video_model_is_the_image_model(image_unet, video_unet, conditions, frames, given):
    image = image_unet()
    inputs = batch(frames)
    output = call(video_unet(image), *inputs, **(conditions() if given else {}))
    torch.testing.assert_close(output.sample, frame_by_frame(image, *inputs), atol=1e-5, rtol=0)
    assert output.flow.shape == (2, 2, frames - 1, 8, 8)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("alone", [True, False])
def test_every_part_is_silent_untrained_and_can_be_switched_off(
    image_unet, video_unet, conditions, awaken, part, alone
):
    image = image_unet()
    switches = {name: (name == part) == alone for name in PARTS}
    inputs, given = batch(), conditions()
    unet = video_unet(image, **switches)
    output = call(unet, *inputs, **given)
    torch.testing.assert_close(output.sample, frame_by_frame(image, *inputs), atol=1e-5, rtol=0)
    assert (output.flow is not None) == switches["predict_net"]


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"use_linear_projection": True, "attention_head_dim": (2, 4)}, (8, 8)),
        ({"block_out_channels": (8, 16, 16, 16), "layers_per_block": 2, "cross_attention_dim": 768}
         | {"down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)}
         | {"up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3}, (64, 40)),
        ({"cross_attention_dim": 1024, "transformer_layers_per_block": 2}, (16, 8)),
        ({"mid_block_type": None, "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")}, (8, 8)),
    ],
)  # fmt: skip
def test_any_unet_of_the_family_fits(image_unet, video_unet, conditions, settings, size):
    image = image_unet(**settings)
    inputs = batch(frames=2, size=size, clips=1, text_dim=image.config.cross_attention_dim)
    unet = video_unet(image)
    output = call(unet, *inputs, **conditions(1, size))
    torch.testing.assert_close(output.sample, frame_by_frame(image, *inputs), atol=1e-5, rtol=0)
    ours = {name.removeprefix("image."): value for name, value in unet.state_dict().items()}
    assert all(torch.equal(ours[name], value) for name, value in image.state_dict().items())
    transfer = unet.weight_transfer
    assert len(transfer.loaded) == len(image.state_dict())
    assert transfer.left_out == ()
    assert set(transfer.loaded) | set(transfer.initialised) == set(unet.state_dict())


def changed(given, name):
    """The same conditions with another value of one."""
    value = given[name]
    return {**given, name: value.flip(0) if name in ("fps", "motion_score") else torch.randn_like(value)}


@pytest.mark.parametrize("window", [None, 4])
def test_a_trained_model_listens_to_every_input(video_unet, conditions, awaken, window):
    unet = awaken(video_unet(pixel_attention_window=window))
    latents, timesteps, text = batch(frames=4)
    given = {**conditions(), "fps": torch.tensor([8.0, 24.0])}
    before = call(unet, latents, timesteps, text, **given)

    def differs(output):
        return (output.sample - before.sample).abs().max() > 1e-3

    for name in ("motion_tokens", "image_tokens", "image_latents", "fps", "motion_score"):
        assert differs(call(unet, latents, timesteps, text, **changed(given, name))), name
        assert differs(call(unet, latents, timesteps, text, **{**given, name: None})), name
    assert differs(call(unet, latents, timesteps.flip(0), text, **given))
    assert differs(call(unet, latents, timesteps, torch.randn_like(text), **given))
    order = torch.tensor([2, 0, 3, 1])
    permuted = call(unet, latents[:, :, order], timesteps, text, **given)
    assert (permuted.sample - before.sample[:, :, order]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["pixel_attention", "adapter", "image_conditioning"])
def test_each_image_path_alone_changes_the_output(video_unet, conditions, awaken, name):
    off = dict.fromkeys(("pixel_attention", "adapter", "image_conditioning"), False)
    unet = awaken(video_unet(**{**off, name: True}))
    inputs, given = batch(), conditions()
    image = "image_tokens" if name == "adapter" else "image_latents"
    before, after = call(unet, *inputs, **given), call(unet, *inputs, **changed(given, image))
    assert (before.sample - after.sample).abs().max() > 1e-3


def test_a_dropped_condition_equals_none_for_its_sample(video_unet, conditions, awaken):
    unet = awaken(video_unet())
    latents, timesteps, text = batch()
    given = conditions()
    full = call(unet, latents, timesteps, text, **given).sample
    keep = torch.tensor([True, False])
    no_text = call(
        unet, latents, timesteps, text, **{**given, "motion_mask": given["motion_mask"] & keep[:, None]}
    )
    no_image = call(unet, latents, timesteps, text, **{**given, "image_mask": keep})
    absent_text = call(unet, latents, timesteps, text, **{**given, "motion_tokens": None})
    images = {"image_tokens": None, "image_latents": None, "image_mask": None}
    absent_image = call(unet, latents, timesteps, text, **{**given, **images})
    for dropped, absent in ((no_text, absent_text), (no_image, absent_image)):
        torch.testing.assert_close(dropped.sample[1], absent.sample[1], atol=1e-5, rtol=0)
        torch.testing.assert_close(dropped.sample[0], full[0], atol=1e-5, rtol=0)
        assert (dropped.sample[1] - full[1]).abs().max() > 1e-3


def test_a_motion_score_that_is_not_told_equals_none_for_its_sample(video_unet, conditions, awaken):
    unet = awaken(video_unet())
    inputs, given = batch(), {**conditions(), "motion_score": torch.tensor([4.0, 7.0])}
    full = call(unet, *inputs, **given).sample
    absent = call(unet, *inputs, **{**given, "motion_score": None}).sample
    partly = call(unet, *inputs, **{**given, "motion_score": torch.tensor([4.0, torch.nan])}).sample
    torch.testing.assert_close(partly[0], full[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(partly[1], absent[1], atol=1e-6, rtol=0)
    assert (partly[1] - full[1]).abs().max() > 1e-3


def test_padding_of_the_motion_caption_is_not_seen(video_unet, conditions, awaken):
    unet = awaken(video_unet())
    inputs, given = batch(), conditions()
    padded = given["motion_tokens"].clone()
    padded[1, 3:] = 77.0
    before, after = call(unet, *inputs, **given), call(unet, *inputs, **{**given, "motion_tokens": padded})
    torch.testing.assert_close(before.sample, after.sample, atol=1e-6, rtol=0)


def test_every_parameter_learns_within_two_steps(video_unet, conditions):
    unet = video_unet().train()
    optimizer = torch.optim.SGD(unet.parameters(), lr=0.1)
    seen = set()
    for _ in range(2):
        output = unet(*batch(), **conditions())
        (output.sample.square().mean() + output.flow.square().mean()).backward()
        seen |= {n for n, p in unet.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
        optimizer.step()
        optimizer.zero_grad()
    assert {name for name, _ in unet.named_parameters()} - seen == set()


def test_the_flow_reaches_the_temporal_modules_from_the_first_step(video_unet, conditions):
    unet = video_unet()
    unet(*batch(), **conditions()).flow.square().mean().backward()
    for name, module in unet.temporal_modules.items():
        for part in (module.convolution, module.attention, module.motion, module.feed_forward):
            assert part.project_out.weight.grad.abs().max() > 0, name


def test_checkpointing_activations_changes_nothing(video_unet, conditions, awaken):
    unet, inputs, given = awaken(video_unet()).train(), batch(), conditions()
    gradients = []
    for _ in range(2):
        unet(*inputs, **given).sample.square().mean().backward()
        gradients.append([p.grad.clone() for p in unet.parameters() if p.grad is not None])
        unet.zero_grad()
        unet.enable_gradient_checkpointing()
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_what_is_switched_off_has_no_parameters(video_unet, image_unet):
    image = image_unet()
    unet = video_unet(image, **dict.fromkeys(PARTS, False))
    extra = {n.split(".")[0] for n, _ in unet.named_parameters()} - {"image"}
    assert extra == {"fps_embedding", "motion_score_embedding"}


def test_windows_that_cover_the_image_equal_full_attention():
    from modeling.layers import pixel_positions
    from modeling.pixel_attention import PixelAttention

    full, windowed = PixelAttention(8, 8), PixelAttention(8, 8, window=4)
    for module in (full, windowed):
        torch.nn.init.normal_(module.to_out.weight)
    windowed.load_state_dict(full.state_dict())
    # 6×5 pixels: the windows of 4 with their halo of 2 do not divide them. Each query must see exactly
    # the pixels in its window's surroundings, which full attention over that part gives.
    x, image = torch.randn(6, 8, 6, 5), torch.randn(2, 8, 6, 5)
    positions = pixel_positions(image)
    result = windowed(x, image, positions, None, frames=3)
    for top, left in itertools.product((0, 4), repeat=2):
        rows, columns = slice(max(top - 2, 0), top + 6), slice(max(left - 2, 0), left + 6)
        near = positions.unflatten(0, (6, 5))[rows, columns].flatten(0, 1)
        part = full(x[..., rows, columns], image[..., rows, columns], near, None, frames=3)
        inside = part[..., min(top, 2) : min(top, 2) + 4, min(left, 2) : min(left, 2) + 4]
        torch.testing.assert_close(result[..., top : top + 4, left : left + 4], inside, atol=1e-5, rtol=0)


def test_it_saves_and_loads_bit_for_bit(video_unet, conditions, awaken, tmp_path):
    unet = awaken(video_unet())
    unet.save_pretrained(tmp_path)
    assert [file.suffix for file in tmp_path.glob("*model*")] == [".safetensors"]
    again = FactorizedUNet.from_pretrained(tmp_path)
    inputs, given = batch(), conditions()
    assert torch.equal(call(unet, *inputs, **given).sample, call(again, *inputs, **given).sample)
    assert again.config.prediction == "v"


def test_an_image_unet_loads_by_path_with_what_it_predicts(image_unet, tmp_path):
    from diffusers import DDIMScheduler

    image_unet().save_pretrained(tmp_path / "unet")
    DDIMScheduler(prediction_type="v_prediction").save_pretrained(tmp_path / "scheduler")
    assert FactorizedUNet.from_image_unet(tmp_path, predict_net=False).config.prediction == "v"
    assert (
        FactorizedUNet.from_image_unet(tmp_path / "unet", prediction="epsilon").config.prediction == "epsilon"
    )
    unet = FactorizedUNet.from_image_unet(tmp_path, predict_net=False)
    assert str(tmp_path) not in unet.to_json_string()
    with pytest.raises(FileNotFoundError, match="neither a UNet"):
        FactorizedUNet.from_image_unet(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latents": torch.zeros(2, 4, 3, 7, 8)}, "halved"),
        ({"latents": torch.zeros(2, 3, 3, 8, 8)}, r"\(B, 4, T, h, w\)"),
        ({"latents": torch.zeros(2, 4, 1025, 2, 2), "image_latents": None}, "max_frames"),
        ({"text_tokens": torch.zeros(2, 7, 25)}, "text_tokens must be"),
        ({"motion_tokens": torch.zeros(2, 7, 24)}, "motion_tokens must be"),
        ({"image_tokens": torch.zeros(1, 7, 20)}, "image_tokens must be"),
        ({"image_latents": torch.zeros(2, 4, 4, 4)}, "image_latents must be"),
        ({"fps": torch.zeros(1)}, "fps must be"),
        ({"text_tokens": torch.zeros(2, 7, 24, dtype=torch.bfloat16)}, "mixed dtypes"),
    ],
)
def test_bad_inputs_are_named(video_unet, conditions, change, message):
    latents, timesteps, text = batch()
    given = {"latents": latents, "timesteps": timesteps, "text_tokens": text, **conditions(), **change}
    with pytest.raises(ValueError, match=message):
        video_unet()(**given)


def test_sdxl_is_refused_by_name(video_unet):
    sdxl = UNet2DConditionModel(
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        cross_attention_dim=8,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=32,
    )
    with pytest.raises(ValueError, match="SDXL"):
        video_unet(sdxl)


def test_bfloat16_stays_near_float32(video_unet, conditions, awaken):
    unet, inputs, given = awaken(video_unet()), batch(), conditions()
    exact = call(unet, *inputs, **given).sample
    half = {k: v.bfloat16() if v.is_floating_point() else v for k, v in given.items()}
    latents, timesteps, text = inputs
    rough = call(unet.to(torch.bfloat16), latents.bfloat16(), timesteps, text.bfloat16(), **half)
    assert rough.sample.dtype == torch.bfloat16
    assert (rough.sample.float() - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_it_compiles_as_one_graph(video_unet, conditions, awaken):
    """The tracing is what could break; aot_eager leaves out a minute of C++ compilation."""
    torch._dynamo.reset()
    unet, inputs, given = awaken(video_unet()), batch(), conditions()
    compiled = torch.compile(unet, fullgraph=True, backend="aot_eager")
    outputs = []
    for network in (unet, compiled):
        output = network(*inputs, **given)
        (output.sample.square().mean() + output.flow.square().mean()).backward()
        outputs.append((output, [p.grad.clone() for p in unet.parameters()]))
        unet.zero_grad()
    (one, gradients), (two, compiled_gradients) = outputs
    torch.testing.assert_close(two.sample, one.sample, atol=1e-5, rtol=0)
    torch.testing.assert_close(two.flow, one.flow, atol=1e-5, rtol=0)
    for expected, found in zip(gradients, compiled_gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_norms_and_softmax_of_bfloat16_are_computed_in_float32():
    """Values that a bfloat16 accumulator would lose: a large mean with small deviations."""
    from modeling.layers import attend

    x = (100 + torch.linspace(-1, 1, 4096)).view(1, -1).bfloat16()
    exact = torch.nn.functional.layer_norm(x.float(), (4096,))
    found = torch.nn.LayerNorm(4096).bfloat16()(x).float()
    assert (found - exact).abs().max() < 0.02
    query, key = torch.zeros(1, 1, 8).bfloat16(), torch.zeros(1, 1024, 8).bfloat16()
    value = torch.ones(1, 1024, 8).bfloat16()
    # 1,024 shares of 1/1,024 come to 1; summed in bfloat16 they would stop at 0.25.
    assert (attend(query, key, value, 1).float() - 1).abs().max() < 0.01
