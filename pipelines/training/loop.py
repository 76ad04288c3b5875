"""The training loop of a stage, as every worker runs it."""

import torch

from pipelines.training.checkpoint import save_checkpoint
from pipelines.training.ema import decay
from pipelines.training.engine import backward, clip_ratio, learning_rate, set_learning_rate, take_step
from pipelines.training.group import check_finite
from pipelines.training.log import StepClock, peak_memory_gb
from pipelines.training.memory import MemoryWatch
from pipelines.training.samples import draw_samples
from pipelines.training.stage import StageRun
from pipelines.training.validation import validate


def train_stage(run: StageRun, memory: MemoryWatch) -> None:
    """Steps `run.step + 1` … `run.last_step`, with a checkpoint at the end and at intervals.

    memory: told what is under way, for the message when it is exhausted.

    Raises TrainingStoppedError, on every worker alike, at a loss or gradient that is not finite.
    """
    stage, settings, group = run.stage, run.settings, run.group
    clock = StepClock(group.device)
    for step in range(run.step + 1, run.last_step + 1):
        memory.reads(step)
        parts = next(run.batches)
        memory.trains(step, parts[0])
        clock.lap("data")

        rate = learning_rate(stage, step, run.last_step)
        set_learning_rate(run.engine, rate)
        seen = []
        for number, losses in enumerate(run.losses(parts), start=1):
            clock.lap("forward")
            backward(run.engine, losses.total, last=number == len(parts))
            seen.append(torch.stack(losses).detach())
            clock.lap("backward")
        loss, loss_diffusion, loss_flow = group.means(*torch.stack(seen).mean(0))
        check_finite("loss", loss, step, run.clip_ids)
        clock.lap("backward")

        grad_norm = take_step(run.engine)
        check_finite("gradient norm", grad_norm, step, run.clip_ids)
        samples = step * settings.global_batch_clips
        run.ema.update(decay(samples, settings.global_batch_clips, settings.ema_half_life_samples))
        run.step = step
        clock.lap("optimizer")

        if run.log is not None:
            seconds = clock.columns()
            tflops = run.batch_tflop(parts[0]) / seconds["seconds_total"]
            run.log.write(
                {
                    "step": step,
                    "samples": samples,
                    "loss": loss,
                    "loss_diffusion": loss_diffusion,
                    "loss_flow": loss_flow,
                    "learning_rate": rate,
                    "grad_norm": grad_norm,
                    "clip_ratio": clip_ratio(grad_norm, settings.max_grad_norm),
                    **seconds,
                    "samples_per_second": settings.global_batch_clips / seconds["seconds_total"],
                    "model_tflops": tflops,
                    "mfu": tflops / run.peak_tflops if run.peak_tflops else None,
                    "peak_memory_gb": peak_memory_gb(group.device),
                }
            )
        if settings.validate_every_steps and step % settings.validate_every_steps == 0:
            validate(run)
        if settings.sample_every_steps and step % settings.sample_every_steps == 0:
            memory.draws(step)
            draw_samples(run)
        if step % settings.checkpoint_every_steps == 0 or step == run.last_step:
            for log in (run.log, run.validation_log):
                if log is not None:
                    log.sync()  # a checkpoint never knows more steps than the log
            save_checkpoint(
                run.folder / "checkpoints",
                run.position(),
                run.partition,
                run.ema,
                rank=group.rank,
                barrier=group.barrier,
                keep=settings.keep_checkpoints,
            )
        clock.lap("checkpoint")
