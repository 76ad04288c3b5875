"""Validation loss at fixed timesteps with fixed noise, outside of everything that training draws."""

from typing import TYPE_CHECKING

import torch

from pipelines.fingerprint import fingerprint
from pipelines.training.batch import prepare
from pipelines.training.stream import Sample, worker_slice

if TYPE_CHECKING:
    from pipelines.training.stage import StageRun

QUANTILES = 8


@torch.no_grad()
def validate(run: "StageRun") -> None:
    """Append {step, loss, clips, loss_t062, …} to `validation.jsonl`; nothing if no clip is in that split.

    Every clip has one timestep, the middle of one of QUANTILES equal spans, in turn; the same noise every
    time, no dropped condition, no noise on the image. All draws have generators of their own, so training
    goes on as if there had been no validation.
    """
    sums = torch.zeros(QUANTILES)
    counts = torch.zeros(QUANTILES)
    for samples in validation_batches(run):
        even = samples + samples[:1] * (-len(samples) % run.group.size)  # every worker must call the network
        own = worker_slice(even, run.group.rank, run.group.size)
        real = max(0, min(len(own), len(samples) - run.group.rank * len(own)))
        quantiles, losses = _losses(run, own)
        for quantile, loss in zip(quantiles[:real], losses[:real], strict=True):
            sums[quantile] += loss
            counts[quantile] += 1
    means = run.group.means(*sums, *counts)
    totals, seen = means[:QUANTILES], means[QUANTILES:]
    if run.validation_log is None or not sum(seen):
        return
    line = {
        "step": run.step,
        "loss": sum(totals) / sum(seen),
        "clips": round(sum(seen) * run.group.size),
        **{f"loss_t{_timestep(run, q):03d}": totals[q] / seen[q] for q in range(QUANTILES) if seen[q]},
    }
    run.validation_log.write(line)


def validation_batches(run: "StageRun") -> list[list[Sample]]:
    """The first `validation_clips` of split `validation`, in batches for all workers together."""
    taken = 0
    batches = []
    for clips in run.plan.index.clips("validation"):
        number = min(run.settings.validation_clips - taken, len(clips))
        samples = [Sample(taken + i, clips.name, *clips.at(i)) for i in range(number)]
        taken += number
        at_a_time = run.micro_batch_clips * run.group.size
        batches += [samples[first : first + at_a_time] for first in range(0, len(samples), at_a_time)]
    return batches


def _timestep(run: "StageRun", quantile: int) -> int:
    return round((quantile + 0.5) / QUANTILES * run.schedule.num_train_timesteps)


def _losses(run: "StageRun", samples: list[Sample]) -> tuple[list[int], list[float]]:
    """Quantile and diffusion loss of each clip."""
    ready = prepare(
        samples,
        run.reader_of_validation.rows(samples),
        seed=int(fingerprint("validation", run.recipe.seed)[:15], 16),
        drop_probability=0.0,
        motion_score_drop_probability=0.0,
        image_noise=0.0,
        num_train_timesteps=run.schedule.num_train_timesteps,
    )
    quantiles = [sample.number % QUANTILES for sample in samples]
    timesteps = torch.tensor([_timestep(run, q) for q in quantiles], device=run.group.device)
    batch, randomness = run.model_batch(ready)
    latents, text = batch.pop("latents"), batch.pop("text_tokens")
    conditions = {name: value for name, value in batch.items() if not name.startswith("flow")}
    noisy = run.schedule.add_noise(latents, randomness.noise, timesteps)
    output = run.engine(noisy, timesteps, text, **conditions, predict_flow=False)
    target = run.schedule.target(latents, randomness.noise, timesteps)
    losses = (output.sample.float() - target.float()).square().flatten(1).mean(1)
    return quantiles, losses.tolist()
