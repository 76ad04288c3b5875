"""EvalCrafter (Liu et al. 2023, arXiv 2310.11440): videos in its layout, final scores of its metric files.

Its metrics are computed by its own container, which reads `videos/0000.mp4` to `videos/0699.mp4` and leaves a
file for each metric in `results`; `pipelines.evaluation.evalcrafter_clip` has those that need CLIP alone.
"""

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.evaluation.claim import claim_folder
from pipelines.evaluation.metrics import EVALCRAFTER_METRICS, evalcrafter_scores
from pipelines.fingerprint import fingerprint

PROMPTS = 700
# Our key: its name in EvalCrafter's files; that of VQA_A, VQA_T and IS is the same.
ITS_NAMES = {
    "clip_temp": "clip_temp_score",
    "warp": "warping_error",
    "face": "face_consistency_score",
    "action": "action_score",
    "motion_ac": "motion_ac_score",
    "flow": "flow_score",
    "clip": "clip_score",
    "blip_bleu": "blip_bleu",
    "sd": "sd_score",
    "det": "detection_score",
    "colour": "color_score",
    "count": "count_score",
    "ocr": "ocr_score",
    "celeb": "celebrity_id_score",
}
DOVER, INCEPTION = "dover.csv", "IS_record.txt"
# Where raw values lie; all others within -1..1. Rates of errors and distances of faces may exceed 1.
RANGES = {"VQA_A": (0, 100), "VQA_T": (0, 100), "IS": (0, math.inf), "flow": (0, math.inf)} | {
    "ocr": (0, 2),
    "celeb": (0, 2),
}


class EvalCrafterError(ValueError):
    """Prompts or metric files that are not as EvalCrafter has them; the message says where and what."""


# ---------------------------------------------------------------- videos


def read_prompts(path: Path) -> list[str]:
    """The prompts in order: of `prompt700.txt`, one a line, or of its folder `prompts` of NNNN.txt files.

    Line n is of video n, counted from 0, so a line without a prompt is an error. Raises EvalCrafterError.
    """
    if path.is_dir():
        files = sorted(path.glob("[0-9][0-9][0-9][0-9].txt"))
        if [file.stem for file in files] != [_stem(number) for number in range(len(files))]:
            raise EvalCrafterError(f"{path}: the prompts must be numbered from 0000.txt on without a gap")
        lines = [file.read_text("utf-8-sig").strip() for file in files]
    elif path.is_file():
        lines = [line.strip() for line in path.read_text("utf-8-sig").rstrip().splitlines()]
    else:
        raise FileNotFoundError(f"no file of prompts {path}: EvalCrafter's is its prompt700.txt")
    if not any(lines):
        raise EvalCrafterError(f"{path} has no prompts")
    if empty := [number for number, line in enumerate(lines) if not line]:
        raise EvalCrafterError(f"{path}: prompt {_stem(empty[0])} is empty; each line is of one video")
    return lines


def draw(
    artist: Any, prompts: Sequence[str], out: Path, *, seed: int = 0, batch_videos: int = 4
) -> dict[str, Any]:
    """Draw `OUT/videos/NNNN.mp4` for each prompt: prompt → image → video.

    artist: pipelines.evaluation.prompts.Artist. A prompt that comes again has another seed. Videos that are
    there whole, of the same model and way of drawing, are kept. Returns {"videos", "prompts", "drawn",
    "kept", "frames", "fps", "model"}. Raises ClaimedError when OUT has another model's videos.
    """
    from pipelines.evaluation.prompts import drawn_videos
    from pipelines.media import write_mp4

    requests = _requests(prompts, seed)
    folder = out / "videos"
    captions = [request.captions for request in requests]
    whose = fingerprint(artist.fingerprint(), captions, [request.seed for request in requests])
    told = {"model": str(artist.folder), "prompts": len(prompts), "seed": seed}
    claim_folder(out, folder, whose, told)
    missing = [number for number in range(len(requests)) if not (folder / f"{_stem(number)}.mp4").is_file()]
    if missing:
        asked = [requests[number] for number in missing]
        for index, _, video in drawn_videos(artist, asked, batch_videos, "evalcrafter: draw"):
            write_mp4(folder / f"{_stem(missing[index])}.mp4", video, artist.fps)
    return {
        "videos": str(folder),
        "prompts": len(prompts),
        "drawn": len(missing),
        "kept": len(prompts) - len(missing),
        "frames": artist.frames,
        "fps": artist.fps,
        "model": str(artist.folder),
    }


def _requests(prompts: Sequence[str], seed: int) -> list[Any]:
    from pipelines.evaluation.prompts import Request

    seen: Counter[str] = Counter()
    requests = []
    for prompt in prompts:  # prompt700.txt has some twice, which would give the same video twice
        requests.append(Request(prompt, seed=seed + seen[prompt]))
        seen[prompt] += 1
    return requests


def _stem(number: int) -> str:
    return f"{number:04d}"


# ---------------------------------------------------------------- scores


def score(path: Path) -> dict[str, Any]:
    """{"metrics": raw, by key of EVALCRAFTER_METRICS, "scores": visual, temporal, motion, align, total}.

    path: EvalCrafter's folder `results`, or a JSON file with the raw metrics under its names or ours.
    Raises EvalCrafterError that names every metric that is missing or out of its range.
    """
    if path.is_dir():
        metrics, where = _of_folder(path), "a file"
    elif path.is_file():
        metrics, where = _of_json(path), "a key"
    else:
        raise FileNotFoundError(
            f"no {path}: give EvalCrafter's folder `results`, or a JSON file of its metrics"
        )
    if missing := [name for name in EVALCRAFTER_METRICS if name not in metrics]:
        wanted = ", ".join(f"{name} ({where} {_source(name, path)})" for name in missing)
        raise EvalCrafterError(f"{path} lacks {len(missing)} of {len(EVALCRAFTER_METRICS)} metrics: {wanted}")
    if wrong := [fault for name, value in metrics.items() if (fault := _fault(name, value))]:
        raise EvalCrafterError(f"{path}: " + "; ".join(wrong))
    return {"metrics": metrics, "scores": evalcrafter_scores(metrics)}


def _source(name: str, path: Path) -> str:
    if not path.is_dir():
        return ITS_NAMES.get(name, name)
    return {"VQA_A": DOVER, "VQA_T": DOVER, "IS": INCEPTION}.get(name) or f"{ITS_NAMES[name]}_record.txt"


def _fault(name: str, value: float) -> str:
    """What is wrong with a raw value; empty when nothing. Tables print most metrics times 100."""
    if not math.isfinite(value):
        return f"{name} is {value}, no number"
    low, high = RANGES.get(name, (-1, 1))
    if low <= value <= high:
        return ""
    return (
        f"{name} is {value:g}, but raw values are {low:g} to {high:g} (papers print most of them times 100)"
    )


def _of_folder(folder: Path) -> dict[str, float]:
    """Metrics of the files that are there."""
    metrics: dict[str, float] = {}
    if (dover := folder / DOVER).is_file():
        metrics |= _dover(dover)
    if (record := folder / INCEPTION).is_file():
        metrics["IS"] = _number(record, r"Inception score of [^\n]*?: ([^,\s]+), std")
    for key, name in ITS_NAMES.items():
        if (record := folder / f"{name}_record.txt").is_file():
            metrics[key] = _number(record, rf"Final average {name}: ([^,\s]+),")
    return metrics


def _dover(path: Path) -> dict[str, float]:
    """Of the last line: `Avg. scores: AESTHETIC, TECHNICAL,OVERALL`."""
    lines = [row for row in csv.reader(path.read_text().splitlines()) if row]
    try:
        label, aesthetic = lines[-1][0].split(": ")
        if label != "Avg. scores":
            raise ValueError(label)
        return {"VQA_A": float(aesthetic), "VQA_T": float(lines[-1][1])}
    except (IndexError, ValueError) as error:
        raise EvalCrafterError(
            f"{path}: the last line must be `Avg. scores: AESTHETIC, TECHNICAL,OVERALL`; did DOVER finish?"
        ) from error


def _number(path: Path, pattern: str) -> float:
    """The last match: a record that was appended to holds the newest run last."""
    found = re.findall(pattern, path.read_text())
    try:
        return float(found[-1])
    except (IndexError, ValueError) as error:
        raise EvalCrafterError(f"{path} has no final average; the metric did not finish") from error


def _of_json(path: Path) -> dict[str, float]:
    try:
        tree = json.loads(path.read_text())
    except ValueError as error:
        raise EvalCrafterError(f"{path} is not JSON: {error}") from error
    if not isinstance(tree, Mapping):
        raise EvalCrafterError(f"{path} must hold one object of metrics by name")
    keys = {name: key for key, name in ITS_NAMES.items()}
    metrics = {keys.get(name) or name: value for name, value in tree.items()}
    if unknown := sorted(set(metrics) - set(EVALCRAFTER_METRICS)):
        known = ", ".join(EVALCRAFTER_METRICS)
        raise EvalCrafterError(f"{path}: {unknown[0]!r} is no metric of EvalCrafter; there are {known}")
    for name, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise EvalCrafterError(f"{path}: {name} must be a number, not {value!r}")
    return {name: float(value) for name, value in metrics.items()}
