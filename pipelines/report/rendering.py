"""Lays pages out: the templates, and how numbers are written on them."""

import math
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipelines.report import charts, lines
from pipelines.secrets import without_secrets


def render(template: str, **context: Any) -> str:
    """A page; whatever a table says in its captions is text in it and never markup."""
    environment = Environment(
        loader=PackageLoader("pipelines.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": lambda value: f"{value:,}",
        "percent": percent,
        "seconds": seconds,
        "gigabytes": lambda value: f"{value:.2f} GB",
        "bytes": file_size,
        "number": number,
        "signed": lambda value: f"{value:+.3g}".replace("-", "−") if value else "0",
        "clock": clock,
        "without_secrets": without_secrets,
        "breakable": lambda name: Markup("_<wbr>").join(name.split("_")),
        "plural": lambda noun, count: noun if count == 1 else f"{noun}s",
    }
    environment.globals |= {"plot": charts, "lines": lines}
    loader = environment.loader
    assert loader is not None
    style = Markup(loader.get_source(environment, "page.css")[0])
    return environment.get_template(template).render(style=style, **context)


def number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "not finite"


def percent(share: float) -> str:
    """`0.04 %` and `99.96 %` stay what they are: neither nothing nor all."""
    value = 100 * share
    if value in (0, 100):
        return f"{value:.0f} %"
    return f"{value:.2f} %" if min(value, 100 - value) < 0.1 else f"{value:.1f} %"


def seconds(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def file_size(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def clock(value: float) -> str:
    """`0:09.7` into a video."""
    minutes, rest = divmod(round(value, 1), 60)
    return f"{minutes:.0f}:{rest:04.1f}"
