"""Before the first step: what each stage will be trained on, and how often it sees a clip."""

from collections.abc import Sequence

from rich.table import Table

from pipelines.progress import stderr_console
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
