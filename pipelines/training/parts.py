"""Which parts of the network a stage trains, and what a stage starts from."""

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn


class PartsError(ValueError):
    """A pattern of `trainable` that fits no parameter."""


def select_trainable(
    model: nn.Module, patterns: Sequence[str], *, unreached: Sequence[str] = ()
) -> list[str]:
    """Let the parameters that match any of `patterns` train; freeze all others. Returns their names.

    patterns: `fnmatch` patterns of parameter names (`temporal_modules.*`); those after a `!` stay frozen all
    the same (`*`, `!image.*`). unreached: patterns of parts that the stage's loss does not reach: they stay
    frozen, for decay without gradient only shrinks them.
    Raises PartsError if a pattern of `patterns` matches no parameter, or none is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    frozen = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    trained_patterns = [pattern for pattern in patterns if not pattern.startswith("!")]
    for pattern in (*trained_patterns, *frozen):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise PartsError(_no_match(pattern, names))
    chosen = [
        name
        for name in names
        if _matches(name, trained_patterns) and not _matches(name, (*frozen, *unreached))
    ]
    if not chosen:
        raise PartsError(
            f"trainable {list(patterns)} selects only parameters that the stage's loss does not reach"
        )
    trained = set(chosen)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    return chosen


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _no_match(pattern: str, names: Sequence[str]) -> str:
    parts = sorted({f"{name.split('.')[0]}.*" for name in names})
    nearest = difflib.get_close_matches(pattern, [*parts, *names], n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"trainable pattern {pattern!r} matches no parameter; {hint}parts are: {', '.join(parts)}"


def transfer_report(
    model: nn.Module, source: str, prediction: str | None, trained: Sequence[str], transfer: Any | None
) -> dict[str, Any]:
    """What a stage starts from: names of tensors loaded, initialised, left out; trained and frozen elements.

    prediction: what the weights were trained to predict. transfer: FactorizedUNet.weight_transfer of a model
    built over an image UNet; None: all was loaded.
    """
    tensors = list(model.state_dict())
    names = {"loaded": tensors, "initialised": [], "left_out": []}
    if transfer is not None:
        names = {key: list(getattr(transfer, key)) for key in names}
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    trained_elements = sum(sizes[name] for name in trained)
    return {
        "from": source,
        "prediction_before": prediction or "unknown",
        "trained_elements": trained_elements,
        "frozen_elements": sum(sizes.values()) - trained_elements,
        "trained_parts": _by_part(trained, sizes),
        **{f"{key}_tensors": len(value) for key, value in names.items()},
        **names,
    }


def _by_part(names: Sequence[str], sizes: dict[str, int]) -> dict[str, int]:
    """Elements per top-level part, such as {"temporal_modules": 120000}."""
    parts: dict[str, int] = {}
    for name in names:
        part = name.split(".")[0]
        parts[part] = parts.get(part, 0) + sizes[name]
    return parts
