"""Scores of a clip: what the filters look at. All take (T, H, W, 3) uint8 RGB frames at scoring size."""

from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

TEXT_FRAMES = 3
TEXT_SIDE_PIXELS = 320
TEXT_CONFIDENCE = 0.6
TALLEST_LINE_SHARE = 0.35
CHANGED_GREY_LEVELS = 6
UNCHANGED_SHARE = 0.001


def clip_scores(frames: np.ndarray, fps: float, *, text: bool) -> dict[str, float | str | None]:
    """Every score of the clip table; `text` False leaves the text detector, the dear one, out (null)."""
    grey = grey_frames(frames)
    return {
        "motion_score": motion_score(grey, fps),
        "static_score": float(np.mean(unchanged_pairs(grey))),
        "text_area": text_area(frames) if text else None,
        "sharpness": sharpness(grey),
        "luminance": float(grey.mean()),
        "phash": perceptual_hash(frames[len(frames) // 2]),
    }


def grey_frames(frames: np.ndarray) -> np.ndarray:
    """(T, H, W) uint8."""
    import cv2

    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])


def motion_score(grey: np.ndarray, fps: float) -> float:
    """Mean optical flow between neighbouring frames, in % of the frame's diagonal per second.

    A pair without change counts as zero: on flat areas flow follows the coding noise.
    """
    import cv2

    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    pixels = [
        0.0 if same else float(np.linalg.norm(flow.calc(one, two, None), axis=2).mean())  # type: ignore[call-overload]
        for one, two, same in zip(grey, grey[1:], unchanged_pairs(grey), strict=False)
    ]
    return 100 * float(np.mean(pixels or [0.0])) * fps / float(np.hypot(*grey.shape[1:]))


def unchanged_pairs(grey: np.ndarray) -> np.ndarray:
    """(T−1,) bool: neighbouring frames without any change beyond the coding noise; one frame: [True]."""
    import cv2

    smooth = [cv2.blur(frame, (3, 3)) for frame in grey]
    changed = [float((cv2.absdiff(one, two) > CHANGED_GREY_LEVELS).mean()) for one, two in pairwise(smooth)]
    return np.array(changed or [0.0]) <= UNCHANGED_SHARE


def sharpness(grey: np.ndarray) -> float:
    """Variance of the Laplacian, the mean over first, middle and last frame."""
    import cv2

    return float(np.mean([cv2.Laplacian(grey[i], cv2.CV_32F).var() for i in _spread(len(grey))]))


def perceptual_hash(frame: np.ndarray) -> str:
    """64-bit DCT hash of one frame as 16 hexadecimal digits."""
    import imagehash
    from PIL import Image

    return str(imagehash.phash(Image.fromarray(frame)))


def text_area(frames: np.ndarray) -> float:
    """Share of the frame under detected lines of text, the mean over first, middle and last frame."""
    import cv2

    detector = _text_detector()
    shares = []
    for i in _spread(len(frames)):
        found = detector(np.ascontiguousarray(frames[i][:, :, ::-1]))
        mask = np.zeros(frames.shape[1:3], np.uint8)
        lines = [box for box in (() if found.boxes is None else found.boxes) if _is_line(box, mask.shape)]
        cv2.fillPoly(mask, [np.round(line).astype(np.int32) for line in lines], 1)  # type: ignore[call-overload]
        shares.append(float(mask.mean()))
    return float(np.mean(shares))


def _is_line(box: np.ndarray, frame_shape: tuple[int, ...]) -> bool:
    """Whether a box (4, 2) can be a line of text: the detector also marks whole frames and big objects."""
    sides = np.linalg.norm(box - np.roll(box, 1, axis=0), axis=1)
    return float(sides.min()) <= TALLEST_LINE_SHARE * min(frame_shape)


def _spread(count: int) -> list[int]:
    """First, middle and last index."""
    return sorted({0, count // 2, count - 1})


@cache
def _text_detector() -> Any:
    """PP-OCR's text detection network out of rapidocr's wheel; one thread, nothing is fetched."""
    import rapidocr
    from omegaconf import OmegaConf
    from rapidocr.ch_ppocr_det import TextDetector
    from rapidocr.utils.typings import EngineType, TaskType

    folder = Path(rapidocr.__file__).parent
    model = next((folder / "models").glob("*_det_*.onnx"), None)
    if model is None:
        raise FileNotFoundError(f"rapidocr's wheel has no text detection model in {folder / 'models'}")
    settings = OmegaConf.load(folder / "config.yaml")
    engine = settings.EngineConfig.onnxruntime
    engine.intra_op_num_threads = engine.inter_op_num_threads = 1
    detection = settings.Det
    detection.engine_type, detection.task_type = EngineType.ONNXRUNTIME, TaskType.DET
    detection.engine_cfg, detection.model_path = engine, str(model)
    detection.limit_side_len, detection.limit_type = TEXT_SIDE_PIXELS, "min"
    detection.box_thresh = TEXT_CONFIDENCE
    return TextDetector(detection)
