"""Published numbers that ours stand beside, each with its paper and with what that says of its protocol."""

from dataclasses import dataclass

from pipelines.evaluation.ucf101_metrics import Compared


@dataclass(frozen=True)
class EvalCrafterTotal:
    """A total of EvalCrafter's leaderboard, and the sub-scores that were published with it."""

    model: str
    total: float
    source: str
    visual: float | None = None
    temporal: float | None = None
    motion: float | None = None
    align: float | None = None


PYRAMID_FLOW = "Jin et al. 2024, arXiv 2410.05954, table 2"
EVALCRAFTER = (
    EvalCrafterTotal("Gen-2", 254, PYRAMID_FLOW),
    EvalCrafterTotal("Pika 1.0", 250, PYRAMID_FLOW),
    EvalCrafterTotal("Pyramid Flow", 244, PYRAMID_FLOW, visual=67.94, temporal=63.41, motion=55.31),
    EvalCrafterTotal("VideoCrafter2", 243, PYRAMID_FLOW),
    EvalCrafterTotal("LaVie", 234, PYRAMID_FLOW),
    EvalCrafterTotal("Show-1", 229, PYRAMID_FLOW),
    EvalCrafterTotal("ModelScope", 218, PYRAMID_FLOW),
)


@dataclass(frozen=True)
class Ucf101Result:
    """A zero-shot result on UCF101. None: the paper gives no such number, or its protocol is not known here.

    training_data: video data. sizes: HEIGHTxWIDTH. real_videos: of FVD.
    """

    model: str
    fvd: float | None
    inception_score: float | None
    source: str
    training_data: str
    prompts: str | None = None
    fvd_clips: int | None = None
    is_clips: int | None = None
    fps: float | None = None
    drawn_size: str | None = None
    compared_size: str | None = None
    real_videos: str | None = None


SENTENCES, NAMES = "a sentence for each class", "class names"
UCF101 = (
    Ucf101Result(
        "CogVideo (English)", 701.59, 25.27, "Hong et al. 2022, arXiv 2205.15868", "5.4 M private videos"
    ),
    Ucf101Result(
        "Make-A-Video",
        367.23,
        33.00,
        "Singer et al. 2022, arXiv 2209.14792",
        "WebVid-10M, 10 M of HD-VILA-100M",
        prompts=SENTENCES,
        fvd_clips=10_000,
        is_clips=10_000,
    ),
    Ucf101Result(
        "Video LDM",
        550.61,
        33.45,
        "Blattmann et al. 2023, arXiv 2304.08818",
        "WebVid-10M",
        fvd_clips=10_000,
        fps=30,
    ),
    Ucf101Result(
        "VideoFactory", 410.00, None, "Wang et al. 2023, arXiv 2305.10874", "HD-VG-130M, WebVid-10M"
    ),
    Ucf101Result(
        "PYoCo", 355.19, 47.76, "Ge et al. 2023, arXiv 2305.10474", "22.5 M videos", prompts=SENTENCES
    ),
    Ucf101Result(
        "Show-1",
        394.46,
        35.42,
        "Zhang et al. 2023, arXiv 2309.15818 (first version; later ones 383.46 and 35.67)",
        "WebVid-10M",
        prompts=SENTENCES,
        fvd_clips=2048,
        is_clips=10_000,
        drawn_size="320x576",
    ),
    Ucf101Result(
        "PixelDance", 242.82, 42.10, "Zeng et al. 2023, arXiv 2311.10982", "WebVid-10M, 0.5 M other videos"
    ),
    Ucf101Result(
        "Stable Video Diffusion",
        242.02,
        None,
        "Blattmann et al. 2023, arXiv 2311.15127, appendix E.4",
        "152 M private clips",
        prompts=NAMES,
        fvd_clips=13_320,
        fps=25,
        drawn_size="320x576",
        compared_size="240x320",
        real_videos="all",
    ),
    Ucf101Result("Emu Video", 606.20, 42.70, "Girdhar et al. 2023, arXiv 2311.10709", "34 M private videos"),
)
HELD_AGAINST = {
    "prompts": "prompts",
    "fvd_clips": "FVD clips",
    "is_clips": "IS clips",
    "fps": "fps",
    "drawn_size": "drawn at",
    "compared_size": "compared at",
    "real_videos": "real videos",
}


def differences(row: Ucf101Result, ours: Compared) -> dict[str, list[str]]:
    """{"differ": what the paper does otherwise, with its value, "unknown": what is not known of it}.

    What belongs to a number that the paper does not give is left out. An image-to-video result differs from
    all: they draw the first frame from text.
    """
    differ, unknown = [], []
    if ours.first_frame != "drawn from text":
        differ.append("first frame drawn from text")
    for name, label in HELD_AGAINST.items():
        mine, theirs = getattr(ours, name), getattr(row, name)
        if mine is None or (name == "is_clips" and row.inception_score is None):
            continue
        if theirs is None:
            unknown.append(label)
        elif theirs != mine:
            differ.append(f"{label} {theirs:,}" if isinstance(theirs, int) else f"{label} {theirs}")
    return {"differ": differ, "unknown": unknown}
