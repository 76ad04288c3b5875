"""Whole checkpoints of a stage: weights, optimizer, EMA, position, and what they were made with.

    checkpoints/step-00000120/state.json             position, recipe, world, sizes of the other files
                             /rank-00000.safetensors  what worker 0 owns: KIND/NAME, flattened pieces
                             /frozen.safetensors      what is not trained (one file for all, hard-linked)

state.json is written last, when every worker's file is on the disk: a checkpoint that has it is whole.
Pieces know where they start, so any number of workers at any ZeRO level can read
them; at the same number they are copied bit for bit.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipelines.files import link_or_copy, sync_to_disk, whole_file
from pipelines.storage import is_remote, local_copy, remove_tree
from pipelines.training.ema import Ema
from pipelines.training.partition import MOMENTS, Fragment, Partition

KINDS = ("weights", "ema", *MOMENTS)
FORMAT = 1
STATE, FROZEN = "state.json", ".frozen.safetensors"


class CheckpointError(RuntimeError):
    """A checkpoint that this run cannot go on from."""


@dataclass(frozen=True)
class Position:
    """How far a stage is, and everything that decides whether another run may go on from here."""

    step: int
    samples: int
    identity: dict[str, Any]  # settings that decide the losses; must be equal to resume
    world: dict[str, Any]  # workers, threads, ...: may differ, within float tolerance


def whole_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first. One whose files were cut short afterwards is not among them."""
    return [path for path in sorted(folder.glob("step-*")) if _is_whole(path)]


def torn_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints that were whole but have not all of their bytes any more, oldest first."""
    return [path for path in sorted(folder.glob("step-*")) if is_finished(path) and not _is_whole(path)]


def is_finished(path: Path) -> bool:
    """Whether the checkpoint was written to its end."""
    return (path / STATE).is_file()


def _is_whole(path: Path) -> bool:
    if not is_finished(path):
        return False
    sizes = json.loads((path / STATE).read_text())["bytes"]
    return all((path / name).is_file() and (path / name).stat().st_size == n for name, n in sizes.items())


def read_position(path: Path) -> Position:
    state = json.loads((path / STATE).read_text())
    return Position(state["step"], state["samples"], state["identity"], state["world"])


def check_identity(path: Path, identity: dict[str, Any]) -> None:
    """Raise CheckpointError, with every differing setting, if `path` is of another recipe."""
    theirs = read_position(path).identity
    if found := list(differences(theirs, identity)):
        raise CheckpointError(
            f"{path} was made with other settings (checkpoint → recipe):\n"
            + "\n".join(f"  {line}" for line in found)
            + f"\nSet them back, choose another run_directory, or delete {path.parent.parent}."
        )


def differences(theirs: Any, ours: Any, where: str = "") -> Iterator[str]:
    """Lines such as `train.precision: fp32 → bf16` for what differs between two trees of settings."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(theirs.keys() | ours.keys()):
            yield from differences(theirs.get(key), ours.get(key), f"{where}.{key}" if where else key)
    elif theirs != ours:
        yield f"{where}: {theirs} → {ours}"


# ---------------------------------------------------------------- writing


def write_frozen(folder: Path, state: dict[str, Tensor]) -> None:
    """Keep what a stage does not train, once: checkpoints link to it. One worker calls this."""
    with whole_file(folder / FROZEN, sync=True) as partial:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, partial)


def save_checkpoint(
    folder: Path,
    position: Position,
    partition: Partition,
    ema: Ema,
    *,
    rank: int,
    barrier: Callable[[], None],
    keep: int,
) -> None:
    """Write `folder/step-N` together with all other workers; prune to the newest `keep`.

    barrier: waits for every worker. Every worker must call this at the same step.
    """
    checkpoint = folder / f"step-{position.step:08d}"
    if rank == 0:
        remove_tree(checkpoint, marker=STATE)  # one that was found not to be whole
        checkpoint.mkdir(parents=True, exist_ok=True)
    barrier()
    if partition.stage > 0 or rank == 0:  # under ZeRO 0 all workers hold the same
        _write_pieces(checkpoint / f"rank-{rank:05d}.safetensors", partition, ema)
    barrier()
    if rank == 0:
        link_or_copy(folder / FROZEN, checkpoint / "frozen.safetensors")
        sizes = {file.name: file.stat().st_size for file in sorted(checkpoint.iterdir())}
        with whole_file(checkpoint / STATE, sync=True) as partial:
            partial.write_text(json.dumps({"format": FORMAT, **vars(position), "bytes": sizes}, indent=1))
        for written in () if is_remote(folder) else (checkpoint, folder):
            sync_to_disk(written)
        prune(folder, keep)


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` whole checkpoints, and what unfinished writing left behind."""
    whole = whole_checkpoints(folder)
    kept = set(whole[-keep:])
    for path in folder.glob("step-*"):
        if path not in kept:
            remove_tree(path, marker=STATE)


def _write_pieces(file: Path, partition: Partition, ema: Ema) -> None:
    pieces: dict[str, Tensor] = {}
    for kind, flats in _kinds(partition, ema).items():
        for fragment in partition.fragments:
            pieces[f"{kind}/{fragment.name}"] = fragment.of(flats).detach().cpu().contiguous()
    layout = {
        f.name: {"start": f.start, "elements": f.elements, "shape": f.shape} for f in partition.fragments
    }
    with whole_file(file, sync=True) as partial:
        save_file(pieces, partial, metadata={"layout": json.dumps(layout)})


def _kinds(partition: Partition, ema: Ema) -> dict[str, list[Tensor]]:
    moments = {kind: partition.moments(kind) for kind in MOMENTS}
    return {"weights": partition.masters, "ema": ema.averages, **moments}


# ---------------------------------------------------------------- reading


class CheckpointReader:
    """Pieces of a checkpoint, by any cut."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = read_position(path)
        with local_copy(path) as folder:  # the open files outlive a copy's names
            self.ranks = [safe_open(file, "pt") for file in sorted(folder.glob("rank-*.safetensors"))]
            self.frozen = safe_open(folder / "frozen.safetensors", "pt")
        self.layouts = [json.loads(file.metadata()["layout"]) for file in self.ranks]
        self.shapes = {name: tuple(at["shape"]) for layout in self.layouts for name, at in layout.items()}

    def piece(self, kind: str, name: str, start: int, elements: int) -> Tensor:
        """Elements [start, start + elements) of a flattened parameter (or its moment or average)."""
        found = []
        for file, layout in zip(self.ranks, self.layouts, strict=True):
            at = layout.get(name)
            if at is None:
                continue
            first = max(start, at["start"])
            last = min(start + elements, at["start"] + at["elements"])
            if first < last:
                part = file.get_slice(f"{kind}/{name}")[first - at["start"] : last - at["start"]]
                found.append((first, part))
        whole = (
            torch.cat([part for _, part in sorted(found, key=lambda pair: pair[0])])
            if found
            else torch.empty(0)
        )
        if whole.numel() != elements:
            raise CheckpointError(
                f"{self.path} holds {whole.numel()} of {elements} elements of {kind}/{name}"
            )
        return whole

    def full(self, kind: str) -> dict[str, Tensor]:
        """All parameters in fp32: trained ones of `kind` ("weights" or "ema"), frozen ones as they are."""
        state = {name: self.frozen.get_tensor(name) for name in self.frozen.keys()}  # noqa: SIM118
        for name, shape in self.shapes.items():
            elements = torch.Size(shape).numel()
            state[name] = self.piece(kind, name, 0, elements).reshape(shape)
        return state


@torch.no_grad()
def restore(reader: CheckpointReader, partition: Partition, ema: Ema) -> None:
    """Put weights, optimizer and EMA of this worker where the checkpoint has them.

    The module itself must have been built from `reader.full("weights")`: only fp32 copies are set here.
    """
    moments = {kind: [torch.zeros_like(m) for m in partition.masters] for kind in MOMENTS}
    targets = {"weights": partition.masters, "ema": ema.averages, **moments}
    for kind, flats in targets.items():
        for fragment in partition.fragments:
            fragment.of(flats).copy_(_piece_of(reader, kind, fragment))
    partition.set_moments(reader.position.step, moments)


def _piece_of(reader: CheckpointReader, kind: str, fragment: Fragment) -> Tensor:
    return reader.piece(kind, fragment.name, fragment.start, fragment.elements)
