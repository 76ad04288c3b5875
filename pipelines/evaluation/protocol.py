"""What published numbers are measured with, and what a number measured so, or otherwise, is called."""

from collections.abc import Iterator, Mapping

from pipelines.recipe import EvaluateSettings

FVD_CLIPS = 2048  # StyleGAN-V's protocol, as most papers have it
IS_CLIPS, IS_SPLITS = 10_000, 10
VIDEO_FRAMES = 16  # of FVD, content-debiased FVD and IS


def fvd_name(clips: int, frames: int = VIDEO_FRAMES) -> str:
    """`fvd2048_16f`; below 2,048 clips, which compares with nothing published, `fvd_i3d_n256_16f`."""
    return f"fvd{clips}_{frames}f" if clips >= FVD_CLIPS else f"fvd_i3d_n{clips}_{frames}f"


def cd_fvd_name(clips: int, frames: int = VIDEO_FRAMES) -> str:
    """`cd_fvd2048_16f`; below 2,048 clips `cd_fvd_n256_16f`."""
    return f"cd_fvd{clips}_{frames}f" if clips >= FVD_CLIPS else f"cd_fvd_n{clips}_{frames}f"


def inception_score_name(clips: int, splits: int = IS_SPLITS) -> str:
    """`is_c3d_ucf101` of 10,000 clips in 10 splits, else `is_c3d_ucf101_n64_10splits`."""
    published = (clips, splits) == (IS_CLIPS, IS_SPLITS)
    return "is_c3d_ucf101" if published else f"is_c3d_ucf101_n{clips}_{splits}splits"


# Network of the recipe, metric, clips at least, name.
PUBLISHED = (
    ("i3d", "FVD", FVD_CLIPS, fvd_name),
    ("videomae", "content-debiased FVD", FVD_CLIPS, cd_fvd_name),
    ("c3d", "IS", IS_CLIPS, inception_score_name),
)


def few_clips_faults(settings: EvaluateSettings, clips: Mapping[str, int]) -> Iterator[str]:
    """Numbers that would be of too few clips to compare with published ones, unless that is asked for.

    clips: how many each set with real videos has.
    """
    for network, metric, least, name in PUBLISHED:
        if settings.allow_few_clips or getattr(settings.networks, network) is None:
            continue
        for label, count in clips.items():
            if count < least:
                yield (
                    f"evaluate.networks.{network}: the set {label!r} has {count:,} clips, {metric} is "
                    f"published over {least:,}; give it that many, or set evaluate.allow_few_clips=true, "
                    f"which names the number {name(count)}"
                )


def few_frames_faults(settings: EvaluateSettings, frames: int) -> Iterator[str]:
    """Networks that take more frames than the evaluated tier's videos have."""
    for network, metric, *_ in PUBLISHED:
        if getattr(settings.networks, network) is not None and frames < VIDEO_FRAMES:
            yield (
                f"evaluate.networks.{network}: {metric} takes {VIDEO_FRAMES} frames, videos of the tier "
                f"{settings.tier!r} have {frames}; evaluate a longer tier, or leave the network out"
            )
