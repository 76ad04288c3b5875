"""Preflight of the networks that stages train, and of the buckets that they must be able to take."""

from collections.abc import Iterator

from pipelines.model_shapes import model_config, model_json, vae_factor
from pipelines.recipe import Recipe

Faults = Iterator[str]


def network_faults(recipe: Recipe) -> Faults:
    """The network of every stage, built without weights or memory, and the parts that each trains."""
    from pipelines.training.stage import check_networks

    try:
        check_networks(recipe)
    except ValueError as error:
        yield f"model, train.stages: {error}"


def start_faults(recipe: Recipe) -> Faults:
    """A model or checkpoint to start from that is not there or of another network."""
    from pipelines.training.checkpoint import CheckpointError
    from pipelines.training.start import check_start

    try:
        check_start(recipe)
    except CheckpointError as error:
        yield str(error)


def prediction_faults(recipe: Recipe) -> Faults:
    """Stages that would train weights to predict something else without saying so."""
    if recipe.train is not None and recipe.train.starts_from is not None:
        return  # a model of ours predicts what its own stages said
    scheduler = model_json(recipe.models.start_unet, "scheduler", "scheduler_config.json")
    weights = "v" if scheduler.get("prediction_type") == "v_prediction" else "epsilon"
    for stage in recipe.train.stages if recipe.train else ():
        schedule = stage.schedule
        if schedule.prediction != weights and "prediction" not in schedule.model_fields_set:
            also = ", terminal_snr: 1.0e-3" if weights == "epsilon" else ""
            yield (
                f"train.stages.{stage.name}.schedule: the weights of {recipe.models.start_unet} predict "
                f"{weights}, this stage {schedule.prediction}; write prediction: {schedule.prediction} if "
                f"that is meant, or prediction: {weights}{also}"
            )


def bucket_faults(recipe: Recipe) -> Faults:
    factor = vae_factor(recipe)
    levels = model_config(recipe.models.start_unet, "unet").get("block_out_channels")
    if factor is None or not levels:
        return  # the models' faults say why
    step = factor * 2 ** (len(levels) - 1)
    for tier, buckets in recipe.curation.tiers.items():
        for bucket in buckets:
            for name, pixels in (("height", bucket.height), ("width", bucket.width)):
                if pixels % step:
                    yield (
                        f"curation.tiers.{tier}: {name} {pixels} of {bucket} is no multiple of {step} pixels "
                        f"(the VAE shrinks by {factor}, the UNet halves {len(levels) - 1} times); nearest: "
                        f"{max(step, round(pixels / step) * step)}"
                    )
            if bucket.frames < 2:
                yield f"curation.tiers.{tier}: {bucket} has one frame; motion needs at least 2"
