"""Metrics as plain functions: arrays in, floats out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipelines.curation.flow import squared_length

PSNR_CEILING_DB = 100.0


def frechet_distance(mean_1: np.ndarray, cov_1: np.ndarray, mean_2: np.ndarray, cov_2: np.ndarray) -> float:
    """Fréchet distance of two Gaussians: |μ₁ − μ₂|² + Tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½).

    means: (D,). covariances: (D, D), positive semi-definite. The trace of (Σ₁Σ₂)^½ is the sum of the roots
    of the eigenvalues of Σ₁^½ Σ₂ Σ₁^½, which is symmetric: exact in float64 without a matrix root of a
    product that is not.
    """
    mean_1, cov_1, mean_2, cov_2 = (np.asarray(part, np.float64) for part in (mean_1, cov_1, mean_2, cov_2))
    if mean_1.shape != mean_2.shape or not cov_1.shape == cov_2.shape == (*mean_1.shape, *mean_1.shape):
        raise ValueError(
            "means (D,) and covariances (D, D) must match, "
            f"not {mean_1.shape}, {cov_1.shape}, {mean_2.shape}, {cov_2.shape}"
        )
    values, vectors = np.linalg.eigh(cov_1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_2 @ root).clip(0)).sum()
    distance = ((mean_1 - mean_2) ** 2).sum() + np.trace(cov_1) + np.trace(cov_2) - 2 * cross
    return float(max(distance, 0.0))


def inception_score(probabilities: np.ndarray, splits: int = 10) -> float:
    """exp E KL(p(y|x) ‖ p(y)), averaged over `splits` equal parts in the given order.

    probabilities: (N, K), rows sum to 1. Between 1 (every sample alike) and K.
    """
    table = np.asarray(probabilities, np.float64)
    if table.ndim != 2 or not 1 <= splits <= len(table):
        raise ValueError(f"probabilities must be (N, K) with N >= splits={splits}, not {table.shape}")
    if not np.allclose(table.sum(1), 1, atol=1e-3):
        raise ValueError("each row of probabilities must sum to 1")
    tiny = np.finfo(np.float64).tiny  # log 0 is −∞, and 0 · −∞ is NaN where the limit is 0
    scores = []
    for part in np.array_split(table, splits):
        divergence = part * (np.log(part + tiny) - np.log(part.mean(0, keepdims=True) + tiny))
        scores.append(math.exp(divergence.sum(1).mean()))
    return float(np.mean(scores))


def psnr_db(frame: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio of pictures (H, W, 3) uint8 in dB; equal ones give 100, not infinity."""
    from kornia.metrics import psnr

    return min(float(psnr(_picture(frame), _picture(reference), max_val=1.0)), PSNR_CEILING_DB)


def ssim(frame: np.ndarray, reference: np.ndarray) -> float:
    """Structural similarity (Wang et al., 2004) of pictures (H, W, 3) uint8, mean over pixels and channels.

    Gaussian window of 11 pixels with deviation 1.5, as published.
    """
    from kornia.metrics import ssim as map_of

    return float(map_of(_picture(frame), _picture(reference), window_size=11).mean())


def image_repetition(frames: np.ndarray, image: np.ndarray) -> float:
    """Mean structural similarity of the frames after the first, of (T, H, W, 3) uint8, and the given image.

    1: the video repeats its image. How much a real video resembles its first frame says what is too much.
    """
    from kornia.metrics import ssim as map_of

    if len(frames) < 2:
        return 1.0
    later = _pictures(frames[1:]).float()  # in a third of the time of float64, and as exact as is shown
    return float(map_of(later, _picture(image).float().expand_as(later), window_size=11).mean())


def _picture(frame: np.ndarray) -> torch.Tensor:
    """(H, W, 3) uint8 → (1, 3, H, W) float64 in 0..1."""
    return _pictures(frame[None])


def _pictures(frames: np.ndarray) -> torch.Tensor:
    """(T, H, W, 3) uint8 → (T, 3, H, W) float64 in 0..1."""
    return torch.from_numpy(frames.astype(np.float64) / 255).permute(0, 3, 1, 2)


def frame_consistency(features: np.ndarray) -> float:
    """Mean cosine of adjacent frames' features (T, D). Frozen videos have 1: see dynamic_degree too."""
    unit = _unit(features)
    return float((unit[:-1] * unit[1:]).sum(1).mean()) if len(unit) > 1 else 1.0


def prompt_consistency(features: np.ndarray, text: np.ndarray) -> float:
    """Mean cosine of the frames' features (T, D) and the prompt's (D,)."""
    return float((_unit(features) @ _unit(text[None])[0]).mean())


def brightness(frames: np.ndarray) -> float:
    """Mean of (T, H, W, 3) uint8 over all pixels and channels, in 0..1."""
    return float(frames.mean()) / 255


def wasserstein_distance(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Earth mover's distance of two samples (..., N) of one number each, equally many; (...)."""
    return np.abs(np.sort(values, -1) - np.sort(others, -1)).mean(-1)


def motion_strength(flow: np.ndarray, fps: float) -> float:
    """Flow of the 5 % of pixels that move most, mean over time, in short sides per second.

    flow: (T − 1, H, W, 2) in pixels per frame. What VBench thresholds for its dynamic degree.
    """
    if not len(flow):
        return 0.0
    lengths = np.sqrt(squared_length(flow)).reshape(len(flow), -1)
    most = max(1, lengths.shape[1] // 20)
    top = np.partition(lengths, -most, axis=1)[:, -most:]
    return float(top.mean() * fps / min(flow.shape[1:3]))


def flow_score(flow: np.ndarray, fps: float) -> float:
    """Mean length of the flow over pixels and time, in short sides per second.

    flow: (T − 1, H, W, 2) in pixels per frame.
    """
    if not len(flow):
        return 0.0
    return float(np.sqrt(squared_length(flow)).mean() * fps / min(flow.shape[1:3]))


def warping_error(frames: np.ndarray, flow: np.ndarray, valid: np.ndarray) -> float | None:
    """Mean squared difference of each frame and the next one that is warped back to it by the flow.

    Of values in 0..1, over channels and the valid pixels of a pair of frames, then over pairs: E_warp of Lai
    et al. 2018 (arXiv 1808.00449, section 4.1), who take the sum over channels. frames: (T, H, W, 3) uint8.
    flow: (T − 1, H, W, 2) in pixels to the next frame. valid: (T − 1, H, W) bool, no occlusion. None when no
    pixel is valid. Frozen videos have 0: see dynamic_degree too.
    """
    from kornia.geometry.transform import remap

    pairs = valid.any((1, 2))
    if not pairs.any():
        return None
    y, x = np.mgrid[: flow.shape[1], : flow.shape[2]].astype(np.float32)
    to = torch.from_numpy(np.stack([x, y], -1) + flow[pairs].astype(np.float32))  # (P, H, W, 2)
    pictures = torch.from_numpy(frames.astype(np.float32) / 255).permute(0, 3, 1, 2)
    here, after = pictures[:-1][pairs], pictures[1:][pairs]  # (P, 3, H, W)
    back = remap(after, to[..., 0], to[..., 1], padding_mode="border", align_corners=True)
    error = (back - here).pow(2).mean(1).numpy()  # (P, H, W)
    mask = valid[pairs]
    return float(((error * mask).sum((1, 2)) / mask.sum((1, 2))).mean())


def leakage(asked: Sequence[bool], strengths: Sequence[float], threshold: float) -> float | None:
    """Share of the videos that were asked to move and do not: their motion strength stays below a threshold.

    Models that lean on their image too much move too little (conditional image leakage, Zhao et al. 2024,
    arXiv 2406.15735). None when no video was asked to move.
    """
    moving = np.asarray(strengths, float)[np.asarray(asked, bool)]
    return float((moving <= threshold).mean()) if len(moving) else None


def dynamic_degree(strengths: Sequence[float], threshold: float) -> float:
    """Share of videos whose motion strength exceeds a threshold."""
    return float(np.mean(np.asarray(strengths, float) > threshold))


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share; z = 1.96: 95 %."""
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} successes of {trials} trials is no share")
    share, square = successes / trials, z * z
    centre = (share + square / (2 * trials)) / (1 + square / trials)
    half = z * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2)) / (1 + square / trials)
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass
class GaussianStatistics:
    """Count, mean and scatter of feature vectors: streaming, and mergeable across workers (Chan et al.)."""

    dimensions: int
    count: int = 0

    def __post_init__(self) -> None:
        self.mean = np.zeros(self.dimensions)
        self.scatter = np.zeros((self.dimensions, self.dimensions))

    def update(self, features: np.ndarray) -> "GaussianStatistics":
        """Take in features (N, D)."""
        features = np.asarray(features, np.float64)
        if features.ndim != 2 or features.shape[1] != self.dimensions:
            raise ValueError(f"features must be (N, {self.dimensions}), not {features.shape}")
        part = GaussianStatistics(self.dimensions, len(features))
        if part.count:
            part.mean = features.mean(0)
            centred = features - part.mean
            part.scatter = centred.T @ centred
        return self.merge(part)

    def merge(self, other: "GaussianStatistics") -> "GaussianStatistics":
        """Take in another's statistics; the order of merging changes nothing but rounding."""
        count = self.count + other.count
        if not other.count:
            return self
        apart = other.mean - self.mean
        self.scatter += other.scatter + np.outer(apart, apart) * (self.count * other.count / count)
        self.mean = self.mean + apart * (other.count / count)
        self.count = count
        return self

    @property
    def covariance(self) -> np.ndarray:
        """(D, D), unbiased. Raises ValueError below two vectors."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 vectors, not {self.count}")
        return self.scatter / (self.count - 1)

    def distance(self, other: "GaussianStatistics") -> float:
        """Fréchet distance to another's Gaussian."""
        return frechet_distance(self.mean, self.covariance, other.mean, other.covariance)


def _unit(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), 1e-12)


EVALCRAFTER_METRICS = (
    *("VQA_A", "VQA_T", "IS"),
    *("clip_temp", "warp", "face"),
    *("action", "motion_ac", "flow"),
    *("clip", "blip_bleu", "sd", "det", "colour", "count", "ocr", "celeb"),
)


def evalcrafter_scores(metrics: Mapping[str, float]) -> dict[str, float]:
    """EvalCrafter's final scores (Liu et al. 2023, arXiv 2310.11440; its eval_from_metrics.py).

    metrics: the keys of EVALCRAFTER_METRICS, raw as its metric files have them: VQA_A, VQA_T in 0..100, IS
    and flow (pixels a frame) unbounded, all others in 0..1 but for rounding. Returns {"visual", "temporal",
    "motion", "align", "total"}, each sub-score times 100, total their sum.
    Raises ValueError that names the metrics that are missing or are no finite numbers.
    """
    if missing := [name for name in EVALCRAFTER_METRICS if name not in metrics]:
        raise ValueError(f"EvalCrafter's scores need all its metrics; missing: {', '.join(missing)}")
    if wrong := [name for name in EVALCRAFTER_METRICS if not math.isfinite(metrics[name])]:
        raise ValueError(f"EvalCrafter's metrics must be finite numbers, not so: {', '.join(wrong)}")
    m = {name: float(metrics[name]) for name in EVALCRAFTER_METRICS}
    vqa_a, vqa_t, inception, flow = (m[name] / 100 for name in ("VQA_A", "VQA_T", "IS", "flow"))
    visual = 0.03004555 * vqa_a + 0.02887537 * vqa_t - 0.01382558 * inception + 0.08707462696457707
    temporal = (
        2.92492244 * m["clip_temp"] + 0.45475678 * (1 - m["warp"]) + 0.17561504 * m["face"] - 3.42274050899774
    )
    motion = -0.01641512 * m["action"] - 0.01340959 * m["motion_ac"] - 0.10517075 * flow + 0.1297562020899355
    align = (
        -0.0701577 * m["clip"]
        + 0.02561424 * m["blip_bleu"]
        + 0.05566109 * m["sd"]
        + 0.0173974 * m["det"]
        - 0.020954 * m["colour"]
        + 0.03069167 * m["count"]
        + 0.00372351 * (1 - m["ocr"])
        + 0.22686202 * (1 - m["celeb"])
    )
    # The weights were fitted to opinions of 0..1, five stars apart; the last intercept is not multiplied.
    scores = {
        "visual": 100 * 5 * visual,
        "temporal": 100 * 5 * temporal,
        "motion": 100 * 5 * motion,
        "align": 100 * (5 * align - 0.30683181901390977),
    }
    return scores | {"total": sum(scores.values())}
