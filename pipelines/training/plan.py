"""What is to be trained: each stage with its data, its folder and what it starts from."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.fingerprint import fingerprint
from pipelines.layout import RunLayout
from pipelines.recipe import Recipe, StageSettings, TrainSettings
from pipelines.training.checkpoint import CheckpointError, check_identity, differences, whole_checkpoints
from pipelines.training.index import ClipIndex, read_index
from pipelines.training.start import MODEL_MARKER, network_hashes, start_fingerprint
from pipelines.training.stream import training_stream

# Settings of `train` that decide the losses; the others (workers, threads, ...) decide how fast.
DECISIVE = (
    "global_batch_clips",
    "precision",
    "weight_decay",
    "max_grad_norm",
    "ema_half_life_samples",
    "drop_probability",
    "motion_score_drop_probability",
    "image_noise",
)


@dataclass(frozen=True)
class StagePlan:
    stage: StageSettings
    settings: TrainSettings
    folder: Path
    steps: int
    seed: int  # of the stream and of everything random about its samples
    identity: dict[str, Any]  # what decides the losses; equal, or a checkpoint is refused
    index: ClipIndex = field(repr=False)  # workers get it with the plan: read once, in one copy for a node
    has_motion_scores: bool
    previous_name: str | None
    previous_model: Path | None  # result of the stage before; None: the image UNet
    clips: dict[str, int]  # of split `train` in each bucket, empty ones too
    visits: dict[str, float]  # how often each clip of a bucket comes in the whole stage
    validation_clips: int  # of all buckets

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def is_trial(self) -> bool:
        """Whether it is a first look, in a folder of its own."""
        return self.folder.parent.name != "train"

    @property
    def finished(self) -> bool:
        marker = self.model / MODEL_MARKER
        return marker.is_file() and json.loads(marker.read_text())["step"] == self.steps


def plan_stages(recipe: Recipe, *, limit_steps: int | None = None) -> list[StagePlan]:
    """All stages in order. `limit_steps`: a first look, in folders of its own (`train/first-N-steps/`).

    Raises ShardError (shards that do not fit the recipe) and CheckpointError (results of another recipe).
    """
    settings = recipe.train
    if settings is None:
        raise ValueError(f"recipe {recipe.name!r} has no section `train`")
    layout = RunLayout.of(recipe)
    indices = {_data_of(stage): read_index(recipe, stage) for stage in settings.stages}
    models = network_hashes(recipe)
    decisive = {name: value for name, value in settings.model_dump(mode="json").items() if name in DECISIVE}
    start = "image UNet" if settings.starts_from is None else start_fingerprint(settings.starts_from)
    plans: list[StagePlan] = []
    for stage in settings.stages:
        before = plans[-1] if plans else None
        index = indices[_data_of(stage)]
        seed = int(fingerprint(recipe.seed, stage.name)[:15], 16)
        stream = training_stream(index, settings, seed)
        steps = stage.steps if limit_steps is None else min(limit_steps, stage.steps)
        identity = {
            "seed": recipe.seed,
            # More steps go on where fewer ended, unless the learning rate falls towards the last one.
            "stage": stage.model_dump(mode="json", exclude=set() if stage.decay_steps else {"steps"}),
            "train": decisive,
            "model": recipe.model.model_dump(mode="json"),
            "models": models,
            "fps": recipe.curation.fps,
            "data": stream.fingerprint,
            "starts_from": start
            if before is None
            else f"stage {before.stage.name} at step {before.steps}, {fingerprint(before.identity)[:12]}",
        }
        name = stage.name if limit_steps is None else f"first-{limit_steps}-steps/{stage.name}"
        plan = StagePlan(
            stage=stage,
            settings=settings,
            folder=layout.stage(name),
            steps=steps,
            seed=seed,
            identity=json.loads(json.dumps(identity)),
            index=index,
            has_motion_scores=index.has_motion_scores,
            previous_name=None if before is None else before.stage.name,
            previous_model=None if before is None else before.model,
            clips={bucket.name: len(bucket) for bucket in index.by_split["train"]},
            visits={
                name: steps * settings.global_batch_clips * share / len(stream.buckets[name])
                for name, share in stream.bucket_shares.items()
            },
            validation_clips=sum(map(len, index.clips("validation"))),
        )
        _check_results(plan)
        plans.append(plan)
    return plans


def _data_of(stage: StageSettings) -> tuple[Any, ...]:
    """What the index of a stage depends on: stages that agree in it share one."""
    return stage.tier, tuple((stage.mix or {}).items())


def _check_results(plan: StagePlan) -> None:
    """Refuse what another recipe left in the stage's folder."""
    marker = plan.model / MODEL_MARKER
    if marker.is_file():
        made = json.loads(marker.read_text())
        lines = list(differences(made["identity"], plan.identity))
        if made["step"] > plan.steps:
            lines.append(f"stage.steps: {made['step']} → {plan.steps}")
        if lines:
            raise CheckpointError(
                f"{plan.model} was trained with other settings (there → recipe):\n"
                + "\n".join(f"  {line}" for line in lines)
                + f"\nSet them back, choose another run_directory, or delete {plan.folder} to train it anew."
            )
    for checkpoint in whole_checkpoints(plan.folder / "checkpoints"):
        check_identity(checkpoint, plan.identity)
