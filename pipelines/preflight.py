"""Preflight: what would stop a recipe half way is looked for before anything starts, and all said at once."""

import os
import shutil
from collections.abc import Iterator
from itertools import chain
from math import ceil
from pathlib import Path
from urllib.parse import urlsplit

from pipelines.files import write_text
from pipelines.layout import RunLayout
from pipelines.model_shapes import clip_bytes, model_config, model_json, vae_factor
from pipelines.models import is_clip_text, resolve_model
from pipelines.node_types import reachable_cluster
from pipelines.preflight_data import count_sources, data_faults
from pipelines.preflight_evaluation import evaluation_faults
from pipelines.preflight_machine import memory_faults
from pipelines.recipe import Recipe, RecipeError
from pipelines.schedulable import schedule_faults
from pipelines.secrets import missing_variables, with_variables
from pipelines.storage import storage_path

STEPS = ("curate", "train", "evaluate")
TRACKING_SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks")
# A checkpoint holds fp32 weights, their average and Adam's two moments.
COPIES_PER_CHECKPOINT = 4
# Temporal modules, adapter and pixel attention beside the image UNet's own weights, generously.
VIDEO_UNET_GROWTH = 2.5
WRITING_MODELS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
DECODER_GB = 1.0  # a decoder process without networks, generously
DEFAULT_PROJECTION_DIM = 512  # CLIPConfig's, for a configuration that does not say it
DISK_RESERVE_BYTES = 200 * 10**6

Faults = Iterator[str]


class PreflightError(RecipeError):
    """A recipe that would fail on the way; `faults` holds every one, each with its mend."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        many = f"{len(faults)} things stand" if len(faults) > 1 else "one thing stands"
        super().__init__(
            f"{many} in the way of this recipe:\n" + "\n".join(f"  - {fault}" for fault in faults)
        )


def preflight(recipe: Recipe, steps: tuple[str, ...] = STEPS) -> None:
    """Check everything that `steps` will need; raises PreflightError with all faults at once."""
    faults = list(find_faults(recipe, steps))
    if faults:
        raise PreflightError(faults)


def find_faults(recipe: Recipe, steps: tuple[str, ...] = STEPS) -> Faults:
    """Every fault as `where: what; mend`. Reads configurations and the table, no network and no video."""
    models = list(model_faults(recipe, steps))
    yield from models
    if "train" in steps and not models:
        networks = list(network_faults(recipe))
        yield from networks or memory_faults(recipe)
        yield from start_faults(recipe)
        yield from prediction_faults(recipe)
    if "curate" in steps:
        yield from data_faults(recipe, steps)
    if "evaluate" in steps and recipe.evaluate is not None:
        yield from evaluation_faults(recipe, tables="curate" in steps)
    yield from bucket_faults(recipe)
    yield from directory_faults(recipe)
    yield from disk_faults(recipe, steps)
    yield from schedule_faults(recipe, steps, reachable_cluster())
    yield from tracking_faults(recipe, steps)


# ---------------------------------------------------------------- models


def model_faults(recipe: Recipe, steps: tuple[str, ...]) -> Faults:
    """Folders, configurations and weights that are missing, and parts that do not fit together."""
    models = recipe.models
    yield from _folder_faults("models.text_to_image", models.text_to_image, ("vae", "unet", "text_encoder"))
    if models.image_unet is not None:
        yield from _folder_faults("models.image_unet", models.image_unet, ("unet",))
    if "train" in steps and not model_json(models.start_unet, "scheduler", "scheduler_config.json"):
        where = "models.image_unet" if models.image_unet else "models.text_to_image"
        yield (
            f"{where}: {models.start_unet} has no scheduler/scheduler_config.json, "
            "which says what its weights predict; give a whole Stable Diffusion folder"
        )
    yield from _folder_faults("models.image_encoder", models.image_encoder, ("",))
    yield from _folder_faults("models.motion_encoder", models.motion_encoder, ("",))
    if models.flow is not None and not (Path(models.flow).is_file() and models.flow.endswith(".pt2")):
        yield f"models.flow: no file {models.flow}; `torch.export.save(program, 'raft.pt2')` makes one"
    if "curate" in steps:
        yield from caption_model_faults(recipe)
        yield from image_score_faults(recipe)
    weights = recipe.curation.shots.weights
    if weights is not None and not os.path.isfile(weights):
        yield f"curation.shots.weights: no file {weights}; it is TransNetV2's, .pth or .safetensors"
    if models.video_classifier is not None and recipe.evaluate is not None:
        yield from _folder_faults("models.video_classifier", models.video_classifier, ("",))
    tokenizers = [
        ("models.text_to_image", models.text_to_image, "tokenizer"),
        ("models.motion_encoder", models.motion_encoder, ""),
    ]
    if "evaluate" in steps:  # which compares frames with words
        tokenizers.append(("models.image_encoder", models.image_encoder, ""))
    for where, path, folder in tokenizers:
        yield from _tokenizer_faults(where, path, folder)
    if "evaluate" in steps:
        yield from _tower_faults("models.image_encoder", models.image_encoder, "prompt consistency")
    yield from _fit_faults(recipe)


def caption_model_faults(recipe: Recipe) -> Faults:
    """What is wrong with the language model that shall split captions, if there is one."""
    where, path = "curation.captions.model", recipe.curation.captions.model
    if path is None:
        return
    yield from _folder_faults(where, path, ("",))
    yield from _tokenizer_faults(where, path, "")
    names = model_config(path).get("architectures")
    if names and not any(name.endswith(WRITING_MODELS) for name in names):
        yield (
            f"{where}: {path} holds {', '.join(names)}, which writes no text; give a causal or "
            "sequence-to-sequence language model"
        )


def image_score_faults(recipe: Recipe) -> Faults:
    """What is wrong with the weights of the aesthetic score and the text match, if there are any."""
    from pipelines.curation.image_scores import load_aesthetic_head, misfit

    settings, where = recipe.curation.image_scores, "curation.image_scores.clip"
    if settings.clip is None:
        return
    yield from _folder_faults(where, settings.clip, ("",))
    yield from _tokenizer_faults(where, settings.clip, "")
    config = model_config(settings.clip)
    if config and not (config.get("model_type") == "clip" and config.get("vision_config")):
        kind = config.get("model_type")
        yield (
            f"{where}: {settings.clip} is no CLIP model with a vision tower (model_type {kind!r}); give a "
            "CLIPModel folder"
        )
    else:
        yield from _tower_faults(where, settings.clip, "the text match")
    limit_gb = recipe.curation.decode.max_memory_gb
    held_gb = DECODER_GB + _weight_bytes(settings.clip, "") / 1e9
    if held_gb > limit_gb:
        yield (
            f"curation.decode.max_memory_gb: {limit_gb:g} GB are too few for the decoder process, which "
            f"holds {where}; set curation.decode.max_memory_gb={ceil(held_gb + DECODER_GB)}"
        )
    if settings.aesthetic_head is None:
        return
    try:
        head = load_aesthetic_head(settings.aesthetic_head)
    except (FileNotFoundError, ValueError) as error:
        yield f"curation.image_scores.aesthetic_head: {error}"
        return
    width = config.get("projection_dim", DEFAULT_PROJECTION_DIM)
    if config and width != len(head.weight):
        yield misfit(head, width)


def config_faults(recipe: Recipe) -> Faults:
    """What stands in the way of a plan, which reads configurations only: no weights, no table, no machine."""
    models = recipe.models
    folders = list(
        chain(
            _folder_faults(
                "models.text_to_image", models.text_to_image, ("vae", "unet", "text_encoder"), weights=False
            ),
            _folder_faults("models.image_unet", models.image_unet, ("unet",), weights=False)
            if models.image_unet is not None
            else (),
            _folder_faults("models.image_encoder", models.image_encoder, ("",), weights=False),
            _folder_faults("models.motion_encoder", models.motion_encoder, ("",), weights=False),
            _fit_faults(recipe),
        )
    )
    yield from folders
    if not folders:
        yield from network_faults(recipe)
    yield from bucket_faults(recipe)


def _folder_faults(where: str, path: str, parts: tuple[str, ...], *, weights: bool = True) -> Faults:
    try:
        folder = resolve_model(path)
    except FileNotFoundError as error:
        yield f"{where}: {error}"
        return
    for part in parts:
        if not (folder / part / "config.json").is_file():
            yield f"{where}: {folder / part} has no config.json; give a folder in Hugging Face format"
            continue
        if weights and not any((folder / part).glob("*.safetensors")):
            others = sorted(file.name for file in (folder / part).glob("*.bin"))
            found = f"only {', '.join(others)}" if others else "no weights"
            yield (
                f"{where}: {folder / part} has {found}; weights are read as .safetensors only "
                "(`model.save_pretrained(FOLDER, safe_serialization=True)` converts them)"
            )


def _tokenizer_faults(where: str, path: str, part: str) -> Faults:
    try:
        folder = resolve_model(path) / part
    except FileNotFoundError:
        return  # said already
    vocabularies = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")
    if not any((folder / name).is_file() for name in vocabularies):
        yield f"{where}: no tokenizer in {folder} (one of {', '.join(vocabularies)}); copy it there"


def _tower_faults(where: str, path: str, needed_by: str) -> Faults:
    config = model_config(path)
    sees = config.get("vision_config") or config.get("image_size")
    if sees and not config.get("text_config"):
        yield (
            f"{where}: {path} has no text tower (model_type {config.get('model_type')!r}), "
            f"which {needed_by} needs; give a CLIPModel folder"
        )


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


def _fit_faults(recipe: Recipe) -> Faults:
    unet, vae, text, image = (
        model_config(recipe.models.start_unet, "unet"),
        model_config(recipe.models.text_to_image, "vae"),
        model_config(recipe.models.text_to_image, "text_encoder"),
        model_config(recipe.models.image_encoder),
    )
    width, expected = text.get("hidden_size"), unet.get("cross_attention_dim")
    if width and expected and width != expected:
        yield (
            f"models.text_to_image: the text encoder gives {width} numbers a token, the UNet's "
            f"cross-attention wants {expected}; take both from one Stable Diffusion folder"
        )
    latent, channels = vae.get("latent_channels"), unet.get("in_channels")
    if latent and channels and latent != channels:
        yield (
            f"models.text_to_image: the VAE has {latent} latent channels, the UNet {channels}; a plain "
            "text-to-image UNet is needed, no inpainting or depth variant"
        )
    if image and not (image.get("vision_config") or image.get("image_size")):
        yield (
            f"models.image_encoder: {recipe.models.image_encoder} is no CLIP model with a vision tower "
            f"(model_type {image.get('model_type')!r}); give a CLIPModel folder"
        )
    inner, outer = (image.get("vision_config") or {}).get("projection_dim"), image.get("projection_dim")
    if inner and outer and inner != outer:
        yield (
            f"models.image_encoder: {recipe.models.image_encoder} says projection_dim {outer}, and {inner} "
            f"for its vision tower; set vision_config.projection_dim of its config.json to {outer}"
        )
    motion = model_config(recipe.models.motion_encoder)
    if motion and "t5" not in str(motion.get("model_type")) and not is_clip_text(motion):
        yield (
            f"models.motion_encoder: {recipe.models.motion_encoder} is a {motion.get('model_type')!r} model; "
            "the motion caption is read by a T5 encoder or a CLIP text model"
        )


# ---------------------------------------------------------------- buckets, disk, machines


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


def directory_faults(recipe: Recipe) -> Faults:
    if "://" in recipe.run_directory:
        yield from _storage_faults(recipe.run_directory)
        return
    folder = Path(recipe.run_directory).absolute()
    existing = _existing(folder)
    if not existing.is_dir():
        yield f"run_directory: {existing} is a file; choose another with run_directory=FOLDER"
    elif not os.access(existing, os.W_OK | os.X_OK):
        yield f"run_directory: {existing} cannot be written to; choose another with run_directory=FOLDER"


def _storage_faults(place: str) -> Faults:
    try:
        probe = storage_path(place) / ".probe"
        write_text(probe, "")
        probe.unlink()
    except Exception as error:  # every kind of object storage has errors of its own
        yield (
            f"run_directory: {place} cannot be written to ({type(error).__name__}: {error}): is the bucket "
            "there, and are the credentials (for S3 AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, …) set here?"
        )


def disk_faults(recipe: Recipe, steps: tuple[str, ...]) -> Faults:
    if "://" in recipe.run_directory:
        return
    existing = _existing(Path(recipe.run_directory).absolute())
    is_run = RunLayout(existing).recipe.is_file()
    already = sum(file.stat().st_size for file in existing.rglob("*") if file.is_file()) if is_run else 0
    needed, free = run_bytes(recipe, steps) - already, shutil.disk_usage(existing).free
    if needed > free:
        yield (
            f"run_directory: {existing} has {free / 1e9:.1f} GB free, this recipe needs about "
            f"{needed / 1e9:.1f} GB more; choose another disk with run_directory=FOLDER, or fewer sources "
            "with data.limit=N"
        )


def run_bytes(recipe: Recipe, steps: tuple[str, ...] = STEPS) -> int:
    """About how much a run leaves: shards, as if every source gave all its clips, checkpoints and models."""
    total = DISK_RESERVE_BYTES
    if "curate" in steps:
        clips = count_sources(recipe.data) * recipe.curation.shots.clips_per_shot
        # A clip goes into one bucket of each tier: the largest is the most it can take.
        total += clips * sum(
            max(clip_bytes(recipe, bucket) for bucket in buckets)
            for buckets in recipe.curation.tiers.values()
        )
    if "train" in steps and recipe.train is not None:
        copies = recipe.train.keep_checkpoints + 1  # the new one is written before the oldest goes
        weights = VIDEO_UNET_GROWTH * _weight_bytes(recipe.models.start_unet, "unet")
        frozen = _weight_bytes(recipe.models.text_to_image, "") + _weight_bytes(
            recipe.models.motion_encoder, ""
        )
        for _ in recipe.train.stages:
            total += int(weights * (copies * COPIES_PER_CHECKPOINT + 1) + frozen)
    return total


def _weight_bytes(path: str, part: str) -> int:
    """Size of a folder's weights as fp32 (files on disk are taken for fp32)."""
    try:
        folder = resolve_model(path) / part
    except FileNotFoundError:
        return 0
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))


def tracking_faults(recipe: Recipe, steps: tuple[str, ...]) -> Faults:
    uri = recipe.tracking.uri
    if not {"train", "evaluate"} & set(steps):
        return
    if uri is None:
        if "://" in recipe.run_directory:
            yield (
                "tracking.uri: MLflow's own SQLite file cannot lie on object storage; give the server of the "
                "cluster, tracking.uri=http://HOST:PORT"
            )
        return
    if missing := missing_variables(uri):
        yield f"tracking.uri: {', '.join(missing)} is not set; export it, and hand it on to a job with --env"
        return
    scheme = urlsplit(with_variables(uri)).scheme.split("+")[0]
    if scheme not in TRACKING_SCHEMES:
        yield (
            f"tracking.uri: {uri!r} is no store that MLflow takes (it refuses plain folders); "
            "write tracking.uri=sqlite:///FILE.db or http://HOST:PORT; left out: SQLite in the run directory"
        )


def _existing(folder: Path) -> Path:
    """The nearest ancestor that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())
