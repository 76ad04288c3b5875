import pytest
import torch

from modeling.objective import CHARBONNIER_EPSILON, count_valid_pixels, diffusion_loss
from modeling.randomness import randomised, sample_randomness
from modeling.schedule import NoiseSchedule

SHAPE = (4, 3, 8, 8)  # C, T, h, w


def make_batch(conditions, clips=2):
    return {
        "latents": torch.randn(clips, *SHAPE),
        "text_tokens": torch.randn(clips, 7, 24),
        "flow": torch.randn(clips, 2, 2, 8, 8),
        "flow_valid": (torch.rand(clips, 2, 8, 8) > 0.3).float(),
        **conditions(clips),
    }


@pytest.mark.parametrize("prediction", ["v", "epsilon"])
def test_the_loss_is_the_formula(video_unet, conditions, prediction):
    unet = video_unet()
    schedule = NoiseSchedule(prediction=prediction, terminal_snr=1e-3)
    batch, noise, timesteps = make_batch(conditions), torch.randn(2, *SHAPE), torch.tensor([10, 999])
    losses = diffusion_loss(unet, schedule, batch, noise, timesteps, flow_weight=0.5)

    given = {k: v for k, v in batch.items() if k not in ("latents", "text_tokens", "flow", "flow_valid")}
    noisy = schedule.add_noise(batch["latents"], noise, timesteps)
    output = unet(noisy, timesteps, batch["text_tokens"], **given)
    bar = schedule.alphas_cumprod[timesteps].float().view(-1, 1, 1, 1, 1)
    target = noise if prediction == "epsilon" else bar.sqrt() * noise - (1 - bar).sqrt() * batch["latents"]
    torch.testing.assert_close(losses.diffusion, (output.sample - target).square().mean())
    # Only the first sample has enough signal for its flow to count.
    distance = (output.flow - batch["flow"])[0].square().sum(0)
    robust = (distance + CHARBONNIER_EPSILON**2).sqrt() - CHARBONNIER_EPSILON
    valid = batch["flow_valid"][0]
    torch.testing.assert_close(losses.flow, (robust * valid).sum() / valid.sum())
    torch.testing.assert_close(losses.total, losses.diffusion + 0.5 * losses.flow)


def test_the_flow_loss_does_not_depend_on_how_a_batch_is_divided(video_unet, conditions):
    unet, schedule = video_unet(), NoiseSchedule()
    batch, noise, timesteps = (
        make_batch(conditions, 4),
        torch.randn(4, *SHAPE),
        torch.tensor([10, 999, 200, 30]),
    )
    whole = diffusion_loss(unet, schedule, batch, noise, timesteps, flow_weight=1.0)
    halves = [slice(0, 2), slice(2, 4)]
    parts = [{k: v[half] for k, v in batch.items()} for half in halves]
    mean = sum(count_valid_pixels(schedule, p, timesteps[h]) for p, h in zip(parts, halves, strict=True)) / 2
    losses = [
        diffusion_loss(unet, schedule, p, noise[h], timesteps[h], flow_weight=1.0, valid_pixels=mean)
        for p, h in zip(parts, halves, strict=True)
    ]
    torch.testing.assert_close(sum(loss.flow for loss in losses) / 2, whole.flow)
    torch.testing.assert_close(sum(loss.total for loss in losses) / 2, whole.total)


def test_noise_without_signal_gives_no_flow_loss_unless_asked_but_keeps_the_graph(video_unet, conditions):
    unet = video_unet()
    timesteps = torch.tensor([999, 999])
    inputs = (unet, NoiseSchedule(), make_batch(conditions), torch.randn(2, *SHAPE), timesteps)
    losses = diffusion_loss(*inputs, flow_weight=1.0)
    assert losses.flow == 0
    assert diffusion_loss(*inputs, flow_weight=1.0, flow_min_snr=0).flow > 0
    losses.flow.backward()
    assert unet.flow_predictor.head.weight.grad is not None


def test_the_flow_gradient_reaches_the_temporal_modules_at_once(video_unet, conditions):
    unet, batch = video_unet(), make_batch(conditions)
    losses = diffusion_loss(
        unet, NoiseSchedule(), batch, torch.randn(2, *SHAPE), torch.tensor([1, 2]), flow_weight=1.0
    )
    losses.flow.backward()
    for module in unet.temporal_modules.values():
        assert module.attention.project_out.weight.grad.abs().max() > 0


def test_flow_without_a_predict_net_is_refused(video_unet, conditions):
    with pytest.raises(ValueError, match="predict_net=True"):
        diffusion_loss(
            video_unet(predict_net=False),
            NoiseSchedule(),
            make_batch(conditions),
            torch.randn(2, *SHAPE),
            torch.tensor([1, 2]),
            flow_weight=1.0,
        )


def draw(numbers, seed=7, **settings):
    return sample_randomness(seed, numbers, latent_shape=SHAPE, **settings)


def test_what_is_random_depends_on_seed_and_sample_number_alone():
    together, apart = draw(range(4), image_noise=0.1), [draw([n], image_noise=0.1) for n in range(4)]
    for name in together._fields:
        whole = getattr(together, name)
        assert torch.equal(whole, torch.cat([getattr(part, name) for part in apart])), name
    other_seed, other_sample = draw([0], seed=8), draw([4])
    assert not torch.equal(other_seed.noise, together.noise[:1])
    assert not torch.equal(other_sample.noise, together.noise[:1])
    # One golden value: a change here changes every training run.
    assert together.timesteps.tolist() == [24, 539, 447, 224]


def test_text_and_image_are_dropped_as_often_as_told():
    many = sample_randomness(1, range(4000), latent_shape=(1, 1, 1, 1), drop_probability=0.1)
    text, image = ~many.keep_text, ~many.keep_image
    assert text.float().mean() == pytest.approx(0.2, abs=0.02)
    assert image.float().mean() == pytest.approx(0.2, abs=0.02)
    assert (text & image).float().mean() == pytest.approx(0.1, abs=0.015)
    assert many.keep_motion_score.all()
    assert many.timesteps.float().mean() == pytest.approx(499.5, abs=15)
    assert (many.timesteps.min() < 5) & (many.timesteps.max() > 994)


def test_motion_scores_are_dropped_on_their_own():
    many = sample_randomness(
        1, range(4000), latent_shape=(1, 1, 1, 1), drop_probability=0.1, motion_score_drop_probability=0.3
    )
    told, text = many.keep_motion_score, many.keep_text
    assert told.float().mean() == pytest.approx(0.7, abs=0.02)
    assert (told & text).float().mean() == pytest.approx(0.7 * 0.8, abs=0.03)


def test_a_randomised_batch_is_what_the_model_trains_on(conditions):
    randomness = draw(range(2), image_noise=0.5)._replace(
        keep_text=torch.tensor([True, False]),
        keep_image=torch.tensor([False, True]),
        keep_motion_score=torch.tensor([False, True]),
    )
    mean, std, empty = torch.randn(2, *SHAPE), torch.rand(2, *SHAPE), torch.randn(1, 7, 24)
    given = {**conditions(), "latents": mean, "text_tokens": torch.randn(2, 7, 24), "image_latents": None}
    batch = randomised(given, randomness, latents_std=std, empty_text_tokens=empty)
    torch.testing.assert_close(batch["latents"], mean + std * randomness.vae_noise)
    torch.testing.assert_close(batch["image_latents"], mean[:, :, 0] + randomness.image_noise)
    assert torch.equal(batch["text_tokens"][0], given["text_tokens"][0])
    assert torch.equal(batch["text_tokens"][1], empty[0])
    assert batch["motion_mask"].any(1).tolist() == [True, False]
    assert batch["image_mask"].tolist() == [False, True]
    assert batch["motion_score"].isnan().tolist() == [True, False]


def test_image_noise_grows_with_the_timestep_up_to_its_limit():
    many = sample_randomness(3, range(2000), latent_shape=(1, 1, 8, 8), image_noise=0.2)
    deviation = many.image_noise.flatten(1).std(1)
    late, early = many.timesteps > 900, many.timesteps < 100
    assert deviation[early].max() < 0.03
    assert 0.15 < deviation[late].max() < 0.3
