"""The noise schedule: SD's betas, shifted by resolution, rescaled to the terminal SNR that is wanted.

x_t = √ᾱ_t x₀ + √(1 − ᾱ_t) ε,  SNR_t = ᾱ_t / (1 − ᾱ_t),  v_t = √ᾱ_t ε − √(1 − ᾱ_t) x₀.
One object gives training its noise levels and sampling its betas, so that the two cannot differ.
"""

from typing import Any, Literal

import torch

Prediction = Literal["v", "epsilon"]
SchedulerKind = Literal["ddim", "dpmsolver++", "unipc"]

# Stable Diffusion's betas (Rombach et al., arXiv 2112.10752): linear in √β, diffusers' "scaled_linear".
BETA_START, BETA_END = 0.00085, 0.012
STABLE_DIFFUSION_TERMINAL_SNR = 0.004681916706157952  # ᾱ_T / (1 − ᾱ_T) of these betas, at 1000 timesteps


class NoiseSchedule:
    """ᾱ_t for t = 0 … num_train_timesteps − 1.

    shift: s of ᾱ' = ᾱ / (s + (1 − s) ᾱ), which is logSNR' = logSNR − log s (Hoogeboom et al.,
        arXiv 2301.11093, with s = (d/d₀)²). 1 leaves SD's schedule as it is.
    terminal_snr: SNR of the last timestep; 0 as in Lin et al., arXiv 2305.08891, algorithm 1.
    prediction: what the network predicts. ε carries no signal at SNR 0, so it needs terminal_snr > 0.

    `alphas_cumprod` is float64, (num_train_timesteps,), strictly decreasing.
    Raises ValueError on settings that give no valid schedule.
    """

    def __init__(
        self,
        num_train_timesteps: int = 1000,
        shift: float = 1.0,
        terminal_snr: float = 0.0,
        prediction: Prediction = "v",
    ) -> None:
        if num_train_timesteps < 2:
            raise ValueError(f"num_train_timesteps must be at least 2, not {num_train_timesteps}")
        if not shift > 0:
            raise ValueError(f"shift must be positive, not {shift}")
        if prediction not in ("v", "epsilon"):
            raise ValueError(f'prediction must be "v" or "epsilon", not {prediction!r}')
        if terminal_snr < 0:
            raise ValueError(f"terminal_snr must not be negative, not {terminal_snr}")
        if prediction == "epsilon" and terminal_snr == 0:
            raise ValueError(
                "epsilon prediction carries no signal at SNR 0: set terminal_snr to a small positive value, "
                'such as 1e-3, or use prediction="v"'
            )
        self.num_train_timesteps = num_train_timesteps
        self.shift = shift
        self.terminal_snr = terminal_snr
        self.prediction: Prediction = prediction
        self.alphas_cumprod = _rescale_terminal(
            _shift(_stable_diffusion(num_train_timesteps), shift), terminal_snr
        )
        self._assert_invariants()

    def _assert_invariants(self) -> None:
        bar = self.alphas_cumprod
        if not (bar[1:] < bar[:-1]).all():
            raise ValueError(
                f"ᾱ does not decrease: terminal_snr={self.terminal_snr} is not below the SNR of the "
                f"shifted schedule (shift={self.shift})"
            )
        if not (bar[0] < 1 and abs(self.snr(self.num_train_timesteps - 1) - self.terminal_snr) < 1e-9):
            raise ValueError(f"schedule out of range: ᾱ_0={bar[0]}, terminal SNR {self.snr(-1)}")

    def snr(self, timesteps: torch.Tensor | int) -> torch.Tensor:
        """ᾱ / (1 − ᾱ) in float64, of the shape of `timesteps`."""
        bar = self.alphas_cumprod.to(timesteps.device if isinstance(timesteps, torch.Tensor) else "cpu")[
            timesteps
        ]
        return bar / (1 - bar)

    def _signal_and_noise(
        self, timesteps: torch.Tensor, like: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(√ᾱ, √(1 − ᾱ)), each (B, 1, …) in the dtype of `like`; rounded only after the square root."""
        bar = self.alphas_cumprod.to(like.device)[timesteps].view(-1, *(1,) * (like.ndim - 1))
        return bar.sqrt().to(like.dtype), (1 - bar).sqrt().to(like.dtype)

    def add_noise(self, x0: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """x_t = √ᾱ x₀ + √(1 − ᾱ) ε. x0, noise: (B, …); timesteps: (B,) long."""
        signal, sigma = self._signal_and_noise(timesteps, x0)
        return signal * x0 + sigma * noise

    def target(self, x0: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """What the network shall predict: ε, or v = √ᾱ ε − √(1 − ᾱ) x₀. Shape of x0."""
        if self.prediction == "epsilon":
            return noise
        signal, sigma = self._signal_and_noise(timesteps, x0)
        return signal * noise - sigma * x0

    def to_x0(self, output: torch.Tensor, noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """x₀ of a prediction. output, noisy: (B, …)."""
        signal, sigma = self._signal_and_noise(timesteps, noisy)
        if self.prediction == "v":
            return signal * noisy - sigma * output
        return (noisy - sigma * output) / signal

    def to_epsilon(self, output: torch.Tensor, noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """ε of a prediction. output, noisy: (B, …)."""
        if self.prediction == "epsilon":
            return output
        signal, sigma = self._signal_and_noise(timesteps, noisy)
        return sigma * noisy + signal * output

    def to_v(self, output: torch.Tensor, noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """v of a prediction. output, noisy: (B, …)."""
        if self.prediction == "v":
            return output
        signal, sigma = self._signal_and_noise(timesteps, noisy)
        return (output - sigma * noisy) / signal

    @property
    def betas(self) -> torch.Tensor:
        """β_t = 1 − ᾱ_t / ᾱ_{t−1} with ᾱ_{−1} = 1; float64, (num_train_timesteps,)."""
        bar = self.alphas_cumprod
        return 1 - bar / torch.cat((bar.new_ones(1), bar[:-1]))

    def to_diffusers_scheduler(self, kind: SchedulerKind = "ddim") -> Any:
        """diffusers' sampler over these betas, with trailing timesteps that start at the last one.

        At zero terminal SNR `rescale_betas_zero_snr` is set too: it changes no beta then, but without
        it DPM-Solver++ and UniPC divide by zero.
        """
        return _sampler(
            kind,
            {
                "num_train_timesteps": self.num_train_timesteps,
                "trained_betas": self.betas.tolist(),
                "prediction_type": "v_prediction" if self.prediction == "v" else "epsilon",
                "rescale_betas_zero_snr": self.terminal_snr == 0,
            },
        )


def sampler_like(scheduler: Any, kind: SchedulerKind) -> Any:
    """diffusers' sampler of another kind over the betas of one that `to_diffusers_scheduler` made."""
    shared = ("num_train_timesteps", "trained_betas", "prediction_type", "rescale_betas_zero_snr")
    return _sampler(kind, {name: scheduler.config[name] for name in shared})


def _sampler(kind: SchedulerKind, settings: dict[str, Any]) -> Any:
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler

    settings = {**settings, "timestep_spacing": "trailing"}
    if kind == "ddim":
        # Neither is among the settings of the other kinds, and diffusers' own default clips latents to ±1.
        return DDIMScheduler(**settings, clip_sample=False, set_alpha_to_one=True)
    if kind == "dpmsolver++":
        return DPMSolverMultistepScheduler(**settings, algorithm_type="dpmsolver++")
    if kind == "unipc":
        return UniPCMultistepScheduler(**settings)
    raise ValueError(f'kind must be "ddim", "dpmsolver++" or "unipc", not {kind!r}')


def _stable_diffusion(num_train_timesteps: int) -> torch.Tensor:
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, num_train_timesteps, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0)


def _shift(bar: torch.Tensor, s: float) -> torch.Tensor:
    return bar / (s + (1 - s) * bar)


def _rescale_terminal(bar: torch.Tensor, terminal_snr: float) -> torch.Tensor:
    """√ᾱ moved and scaled so that √ᾱ_0 stays and SNR_T is terminal_snr (arXiv 2305.08891, algorithm 1)."""
    root, last = bar.sqrt(), (terminal_snr / (1 + terminal_snr)) ** 0.5
    root = last + (root - root[-1]) * (root[0] - last) / (root[0] - root[-1])
    return root**2
