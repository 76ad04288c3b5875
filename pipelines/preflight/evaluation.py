"""Preflight of an evaluation: protocols that could not be kept, networks and images that are not there."""

from collections.abc import Iterator
from pathlib import Path

from pipelines.recipe import Recipe


def evaluation_faults(recipe: Recipe, *, tables: bool) -> Iterator[str]:
    """Faults of `evaluate`, each with its mend; addresses are not asked.

    tables: the tables of given images are there already.
    """
    from pipelines.curation.reach import is_remote
    from pipelines.evaluation.feature_networks import FeatureNetworkError, local_network, videomae_fault
    from pipelines.evaluation.images import image_clips
    from pipelines.evaluation.protocol import few_clips_faults, few_frames_faults
    from pipelines.evaluation.reference import EvaluationError

    settings = recipe.evaluate
    assert settings is not None
    real = {each.name: each.clips for each in settings.sets if each.split is not None}
    yield from few_clips_faults(settings, real)
    if real:
        yield from few_frames_faults(
            settings, min(bucket.frames for bucket in recipe.curation.tiers[settings.tier])
        )
    for name in ("i3d", "c3d", "lpips"):
        network = getattr(settings.networks, name)
        if network is None or is_remote(network.file):
            continue
        try:
            local_network(network)
        except FeatureNetworkError as error:
            yield f"evaluate.networks.{name}: {error}"
    if settings.networks.videomae is not None and (fault := videomae_fault(settings.networks.videomae)):
        yield f"evaluate.networks.videomae: {fault}"
    if tables and settings.watermark is not None and not Path(settings.watermark).is_file():
        yield f"evaluate.watermark: no file {settings.watermark}; give a picture of the mark, light on black"
    for wanted in settings.sets if tables else ():
        if wanted.images is None:
            continue
        try:
            image_clips(recipe, wanted)
        except EvaluationError as error:
            yield str(error)
