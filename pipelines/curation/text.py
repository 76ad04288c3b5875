"""Text in the picture, and text that was laid over it: the two dear scores, one small picture for each.

All take (T, H, W, 3) uint8 RGB frames at scoring size.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

# Short sides of what the detector sees: at 160 bricks turn into lines of text, at 256 small marks are missed.
TEXT_SIDE_PIXELS = 192
MARK_SIDE_PIXELS = 320
SAME_STROKES = 0.4
TEXT_CONFIDENCE = 0.6
TALLEST_LINE_SHARE = 0.35
# One thread of each worker, wherever the system puts it, and the same numbers on CPUs that have bfloat16.
# On one core OpenVINO takes 0.3 of ONNX Runtime's time, and their outputs differ by 3e-7.
OPENVINO_SETTINGS = {
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
    "ENABLE_CPU_PINNING": False,
    "INFERENCE_PRECISION_HINT": "f32",
}


def text_area(frames: np.ndarray) -> float:
    """Share of the middle frame under lines of text."""
    frame = frames[len(frames) // 2]
    return float(_under(text_lines(frame, TEXT_SIDE_PIXELS), frame.shape[:2]).mean())


def watermark_area(frames: np.ndarray) -> float:
    """Share of the frame under text that stays where it is while the picture moves.

    The detector looks at the mean over time: what moves blurs away, and even a translucent mark stands out.
    Strokes that the first and the last frame do not share are a sign that went by.
    """
    import cv2

    total = np.zeros(frames.shape[1:], np.float32)
    for frame in frames:
        cv2.accumulate(frame, total)
    mean = (total / len(frames)).astype(np.uint8)
    lines = text_lines(mean, MARK_SIDE_PIXELS)
    first, last = (cv2.Sobel(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), cv2.CV_32F, 1, 0) for f in frames[[0, -1]])
    staying = [line for line in lines if _correlation(line, first, last) > SAME_STROKES]
    return float(_under(staying, mean.shape[:2]).mean())


def text_lines(picture: np.ndarray, short_side_pixels: int) -> list[np.ndarray]:
    """Boxes (4, 2) around the lines of text that show in a picture (H, W, 3) uint8 at that size."""
    import cv2

    height, width = picture.shape[:2]
    scale = short_side_pixels / min(height, width)
    size = (round(width * scale), round(height * scale))
    seen = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    found = text_detector()(np.ascontiguousarray(seen[:, :, ::-1]))
    boxes = [] if found.boxes is None else [box / scale for box in found.boxes]
    return [box for box in boxes if _is_line(box, (height, width))]


def _is_line(box: np.ndarray, frame_shape: tuple[int, ...]) -> bool:
    """Whether a box (4, 2) can be a line of text: the detector also marks whole frames and big objects."""
    sides = np.linalg.norm(box - np.roll(box, 1, axis=0), axis=1)
    return float(sides.min()) <= TALLEST_LINE_SHARE * min(frame_shape)


def _under(lines: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """(H, W) uint8: 1 inside the boxes."""
    import cv2

    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.round(line).astype(np.int32) for line in lines], 1)  # type: ignore[call-overload]
    return mask


def _correlation(line: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
    """Of two pictures inside a box, -1 to 1."""
    inside = _under([line], one.shape) == 1
    a, b = one[inside], other[inside]
    return float(a @ b / np.sqrt(max(1e-6, float((a @ a) * (b @ b)))))


@cache
def text_detector() -> Any:
    """PP-OCR's text detection network out of rapidocr's wheel; one thread, nothing is fetched.

    Raises FileNotFoundError if the wheel has no such network.
    """
    import rapidocr
    from omegaconf import OmegaConf
    from openvino import Core
    from rapidocr.ch_ppocr_det import TextDetector
    from rapidocr.utils.typings import EngineType, TaskType

    folder = Path(rapidocr.__file__).parent
    model = next((folder / "models").glob("*_det_*.onnx"), None)
    if model is None:
        raise FileNotFoundError(f"rapidocr's wheel has no text detection model in {folder / 'models'}")
    settings = OmegaConf.load(folder / "config.yaml")
    detection = settings.Det
    detection.engine_type, detection.task_type = EngineType.OPENVINO, TaskType.DET
    detection.engine_cfg, detection.model_path = settings.EngineConfig.openvino, str(model)
    detection.limit_side_len, detection.limit_type = 32, "min"  # we choose the size: see text_lines
    detection.box_thresh = TEXT_CONFIDENCE
    detector = TextDetector(detection)
    # rapidocr has no setting for the precision.
    compiled = Core().compile_model(detector.session.model, "CPU", OPENVINO_SETTINGS)
    detector.session.session = compiled.create_infer_request()
    return detector
