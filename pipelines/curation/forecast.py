"""Before anything expensive starts: what each bucket will hold, and what will be dropped and why."""

from collections import Counter
from typing import Any

from rich.table import Table

from pipelines.curation.verdicts import REASONS
from pipelines.progress import stderr_console
from pipelines.recipe import CurationSettings

Forecast = dict[str, Any]


def forecast(settled: list[dict[str, Any]], curation: CurationSettings) -> Forecast:
    """Clips and minutes of every bucket of the recipe, empty ones too, and what is dropped by reason."""
    clips: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    for unit in settled:
        clips.update(unit["wanted_buckets"])
        dropped.update(unit["reasons"])
    return {
        "buckets": [
            {
                "tier": tier,
                "bucket": str(bucket),
                "clips": clips[str(bucket)],
                "minutes": round(clips[str(bucket)] * bucket.frames / curation.fps / 60, 2),
            }
            for tier, buckets in curation.tiers.items()
            for bucket in buckets
        ],
        "dropped": {code: dropped[code] for code in REASONS if code in dropped},
    }


def show_forecast(told: Forecast) -> None:
    """Two small tables on stderr."""
    console = stderr_console()
    buckets = Table(title="What precompute will make", title_justify="left", box=None, pad_edge=False)
    for name in ("tier", "bucket", "clips", "minutes"):
        buckets.add_column(name, justify="left" if name in ("tier", "bucket") else "right")
    for row in told["buckets"]:
        buckets.add_row(row["tier"], row["bucket"], f"{row['clips']:,}", f"{row['minutes']:,.1f}")
    console.print(buckets)
    if not told["dropped"]:
        return
    dropped = Table(title="What is dropped", title_justify="left", box=None, pad_edge=False)
    for name in ("reason", "clips", "that is"):
        dropped.add_column(name, justify="right" if name == "clips" else "left")
    for code, count in told["dropped"].items():
        dropped.add_row(code, f"{count:,}", REASONS[code])
    console.print(dropped)
