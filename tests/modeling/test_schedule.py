import pytest
import torch

from modeling.schedule import STABLE_DIFFUSION_TERMINAL_SNR, NoiseSchedule, sampler_like


def stable_diffusion_alphas_cumprod():
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0)


def test_without_shift_and_at_its_own_terminal_snr_it_is_stable_diffusions():
    bar = stable_diffusion_alphas_cumprod()
    schedule = NoiseSchedule(terminal_snr=STABLE_DIFFUSION_TERMINAL_SNR)
    torch.testing.assert_close(schedule.alphas_cumprod, bar, atol=1e-12, rtol=0)
    assert abs(bar[-1].sqrt() - 0.0683) < 1e-4


@pytest.mark.parametrize("s", [0.5, 2.0, 4.0])
def test_shift_moves_log_snr_by_minus_log_s(s):
    bar = stable_diffusion_alphas_cumprod()
    shifted = bar / (s + (1 - s) * bar)
    terminal = float(shifted[-1] / (1 - shifted[-1]))
    schedule = NoiseSchedule(shift=s, terminal_snr=terminal)
    before = torch.log(bar / (1 - bar))
    after = torch.log(schedule.snr(torch.arange(1000)))
    torch.testing.assert_close(
        after, before - torch.log(torch.tensor(s, dtype=torch.float64)), atol=1e-6, rtol=0
    )


def test_zero_terminal_snr_follows_algorithm_1():
    root = stable_diffusion_alphas_cumprod().sqrt()
    expected = (root - root[-1]) * root[0] / (root[0] - root[-1])
    schedule = NoiseSchedule()
    torch.testing.assert_close(schedule.alphas_cumprod, expected**2, atol=1e-12, rtol=0)
    assert schedule.alphas_cumprod[-1] == 0
    assert schedule.alphas_cumprod.dtype == torch.float64


@pytest.mark.parametrize("shift", [0.25, 1.0, 9.0])
@pytest.mark.parametrize("terminal_snr", [0.0, 1e-3])
def test_the_schedule_decreases_to_the_snr_that_was_named(shift, terminal_snr):
    schedule = NoiseSchedule(shift=shift, terminal_snr=terminal_snr)
    assert (schedule.alphas_cumprod.diff() < 0).all()
    assert schedule.snr(999) == pytest.approx(terminal_snr, abs=1e-9)
    betas = schedule.betas
    assert ((betas > 0) & (betas <= 1)).all()
    torch.testing.assert_close(torch.cumprod(1 - betas, 0), schedule.alphas_cumprod, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize(("prediction", "terminal_snr"), [("v", 0.0), ("v", 1e-3), ("epsilon", 1e-3)])
def test_conversions_recover_what_was_mixed(prediction, terminal_snr):
    schedule = NoiseSchedule(prediction=prediction, terminal_snr=terminal_snr, shift=2.0)
    x0, noise = torch.randn(2, 5, 4, 3, 8, 8, dtype=torch.float64)
    timesteps = torch.tensor([0, 1, 500, 998, 999])
    noisy = schedule.add_noise(x0, noise, timesteps)
    target = schedule.target(x0, noise, timesteps)
    torch.testing.assert_close(schedule.to_x0(target, noisy, timesteps), x0, atol=1e-6, rtol=0)
    torch.testing.assert_close(schedule.to_epsilon(target, noisy, timesteps), noise, atol=1e-6, rtol=0)
    bar = schedule.alphas_cumprod[timesteps].view(-1, 1, 1, 1, 1)
    v = bar.sqrt() * noise - (1 - bar).sqrt() * x0
    torch.testing.assert_close(schedule.to_v(target, noisy, timesteps), v, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["ddim", "dpmsolver++", "unipc"])
@pytest.mark.parametrize(("prediction", "terminal_snr"), [("v", 0.0), ("epsilon", 1e-3)])
def test_diffusers_samplers_recover_a_known_sample(kind, prediction, terminal_snr):
    schedule = NoiseSchedule(prediction=prediction, terminal_snr=terminal_snr, shift=2.0)
    sampler = schedule.to_diffusers_scheduler(kind)
    torch.testing.assert_close(
        sampler.alphas_cumprod[:-1].double(), schedule.alphas_cumprod[:-1], atol=1e-5, rtol=0
    )
    sampler.set_timesteps(20)
    assert sampler.timesteps[0] == 999
    x0 = torch.randn(1, 4, 2, 8, 8)
    x = schedule.add_noise(x0, torch.randn_like(x0), torch.tensor([999]))
    for timestep in sampler.timesteps:
        t = timestep[None]
        bar = schedule.alphas_cumprod[t].float().view(-1, 1, 1, 1, 1)
        noise = (x - bar.sqrt() * x0) / (1 - bar).sqrt()  # a network that knows the sample
        x = sampler.step(schedule.target(x0, noise, t), timestep, x).prev_sample
        assert x.isfinite().all()
    torch.testing.assert_close(x, x0, atol=2e-2, rtol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prediction": "epsilon"}, "SNR 0"),
        ({"prediction": "x0"}, "prediction"),
        ({"shift": 0.0}, "shift"),
        ({"terminal_snr": -1.0}, "negative"),
        ({"terminal_snr": 1e6}, "does not decrease"),
    ],
)
def test_impossible_schedules_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        NoiseSchedule(**settings)


@pytest.mark.parametrize("kind", ["ddim", "dpmsolver++", "unipc"])
@pytest.mark.parametrize("before", ["ddim", "dpmsolver++", "unipc"])
def test_a_sampler_made_from_another_is_the_schedule_s_own(kind, before):
    schedule = NoiseSchedule(shift=4.0)
    own, made = (
        schedule.to_diffusers_scheduler(kind),
        sampler_like(schedule.to_diffusers_scheduler(before), kind),
    )
    assert dict(made.config) == dict(own.config)
    made.set_timesteps(5)
    noisy, output = 3 * torch.ones(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)
    # At SNR 0 x₀ = −v = 0 and ε = x: nothing of it is clipped.
    assert made.step(output, made.timesteps[0], noisy).prev_sample.max() > 2
