"""Before the first step: what each stage will be trained on, and how often it sees a clip."""

from collections.abc import Sequence

from rich.table import Table

from pipelines.progress import stderr_console
from pipelines.training.checkpoint import torn_checkpoints, whole_checkpoints
from pipelines.training.plan import StagePlan


def show_plans(plans: Sequence[StagePlan]) -> None:
    """A line for each bucket of each stage that is not finished, on stderr."""
    table = Table(title="What is trained on", title_justify="left", box=None, pad_edge=False)
    for name in ("stage", "bucket", "clips", "each comes", ""):
        table.add_column(name, justify="right" if name in ("clips", "each comes") else "left")
    for plan in plans:
        if plan.finished:
            continue
        for bucket, clips in plan.clips.items():
            times = f"{plan.visits[bucket]:.1f} times" if clips else ""
            table.add_row(plan.stage.name, bucket, f"{clips:,}", times, _remark(plan, clips))
    stderr_console().print(table)


def _remark(plan: StagePlan, clips: int) -> str:
    if not clips:
        return "left out: no clip of split train"
    if clips < plan.settings.global_batch_clips:
        return "less than a batch: they repeat in it"
    return ""


def warn_of_nothing_to_watch(plans: Sequence[StagePlan]) -> None:
    """Say which stages validate or draw samples by the recipe, but have no clip of split `validation`.

    A warning, no error: whether any is kept is known after curation only, and training does not need it.
    """
    for plan in plans:
        settings = plan.settings
        wanted = {
            "train.validate_every_steps": settings.validate_every_steps,
            "train.sample_every_steps": settings.sample_every_steps,
        }
        asked = [name for name, steps in wanted.items() if steps is not None]
        if asked and not plan.validation_clips and not plan.finished:
            stderr_console().print(
                f"warning: {' and '.join(asked)} will do nothing in stage {plan.stage.name}: tier "
                f"{plan.stage.tier} has no clip of split 'validation'. Name the column of splits with "
                "data.columns.split, list 'validation' in curation.precompute.splits, and curate again.",
                markup=False,
                style="yellow",
            )


def warn_of_torn_checkpoints(plans: Sequence[StagePlan]) -> None:
    """Say which checkpoints are passed over, and from where a stage goes on instead."""
    for plan in plans:
        folder = plan.folder / "checkpoints"
        for path in () if plan.finished else torn_checkpoints(folder):
            whole = whole_checkpoints(folder)
            start = whole[-1].name if whole else "its start"
            stderr_console().print(
                f"warning: {path} is not whole any more; stage {plan.stage.name} goes on from {start}.",
                markup=False,
                style="yellow",
            )
