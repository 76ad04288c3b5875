"""Scores of a clip: what the filters look at. All take (T, H, W, 3) uint8 RGB frames at scoring size."""

from itertools import pairwise

import numpy as np

from pipelines.curation.flow import dis_flow, squared_length
from pipelines.curation.text import text_area, watermark_area

CHANGED_GREY_LEVELS = 6
UNCHANGED_SHARE = 0.001
CHANGE_SIDE_PIXELS = 128
MOVED_GREY_LEVELS = 12
LEAST_OVERLAP = 0.2
DOUBTFUL_CHANGE = 0.05
BLOCK_PIXELS = 16


def clip_scores(frames: np.ndarray, fps: float, *, text: bool) -> dict[str, float | str | None]:
    """Every score of the clip table; `text` False leaves the text detector, the dear one, out (null)."""
    grey = grey_frames(frames)
    return {
        "motion_score": motion_score(grey, fps),
        "static_score": float(np.mean(unchanged_pairs(grey))),
        "scene_change": scene_change(grey),
        "text_area": text_area(frames) if text else None,
        "watermark_area": watermark_area(frames) if text else None,
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
    pixels = [
        0.0 if same else float(np.sqrt(squared_length(_quick_flow(one, two))).mean())
        for one, two, same in zip(grey, grey[1:], unchanged_pairs(grey), strict=False)
    ]
    return 100 * float(np.mean(pixels or [0.0])) * fps / float(np.hypot(*grey.shape[1:]))


def unchanged_pairs(grey: np.ndarray) -> np.ndarray:
    """(T−1,) bool: neighbouring frames without any change beyond the coding noise; one frame: [True].

    Light that comes and goes over the whole frame is no change.
    """
    import cv2

    smooth = [cv2.blur(frame, (3, 3)) for frame in grey]
    means = [max(1.0, float(frame.mean())) for frame in smooth]
    changed = []
    for (one, mean), (two, later_mean) in pairwise(zip(smooth, means, strict=True)):
        as_lit = cv2.convertScaleAbs(two, alpha=mean / later_mean)
        shares = [float((cv2.absdiff(one, other) > CHANGED_GREY_LEVELS).mean()) for other in (two, as_lit)]
        changed.append(min(shares))
    return np.array(changed or [0.0]) <= UNCHANGED_SHARE


def scene_change(grey: np.ndarray) -> float:
    """Share of the frame that one picture under an even camera move does not explain; near 0: a photograph.

    An affine move, fitted to the flow from the first to the last frame, is taken off the last frame, and as
    much of it as belongs there off the middle one: what then still differs from the first frame has moved by
    itself, or the camera moved unevenly as a hand does. A pan or zoom over a photograph (Ken Burns) leaves
    nothing, whatever its motion score.
    """
    import cv2

    height, width = grey.shape[1:]
    scale = CHANGE_SIDE_PIXELS / min(height, width)
    size = (round(width * scale), round(height * scale))
    middle, last = len(grey) // 2, len(grey) - 1
    pictures = {i: cv2.resize(grey[i], size, interpolation=cv2.INTER_AREA) for i in {0, middle, last}}
    flow = _quick_flow(pictures[0], pictures[last])
    ys, xs = (part.ravel() for part in np.mgrid[6 : size[1] - 6 : 6, 6 : size[0] - 6 : 6])
    points = np.stack([xs, ys], 1).astype(np.float32)
    move, _ = cv2.estimateAffine2D(points, points + flow[ys, xs], ransacReprojThreshold=0.7)
    if move is None or np.linalg.det(move[:, :2]) <= 0:
        return 1.0
    share = middle / max(1, last)
    change = _unexplained_move(pictures[0], pictures[middle], pictures[last], move, share)
    if change == 0 or change > DOUBTFUL_CHANGE:
        return change
    # Flow is a little off where there is little texture: align by the pictures themselves.
    enough = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)
    start = move.astype(np.float32)
    try:
        _, better = cv2.findTransformECC(
            pictures[0], pictures[last], start, cv2.MOTION_AFFINE, enough, None, 3
        )
    except cv2.error:  # it did not converge
        return change
    return min(change, _unexplained_move(pictures[0], pictures[middle], pictures[last], better, share))


def _unexplained_move(
    first: np.ndarray, middle: np.ndarray, last: np.ndarray, move: np.ndarray, share: float
) -> float:
    """What `move` (2, 3) leaves of the last frame, or `share` of it of the middle one, whichever is more."""
    from scipy.linalg import fractional_matrix_power

    whole = np.vstack([move, [0, 0, 1]]).astype(np.float64)
    part = np.real(fractional_matrix_power(whole, share))
    return max(_unexplained(first, last, whole[:2]), _unexplained(first, middle, part[:2]))


def _unexplained(first: np.ndarray, later: np.ndarray, move: np.ndarray) -> float:
    """Share of the pixels that both show in which they differ, once `move`, first to later, is undone."""
    import cv2

    size = first.shape[::-1]
    undo = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    back = cv2.warpAffine(later, move, size, flags=undo, borderMode=cv2.BORDER_REPLICATE)
    shown = cv2.warpAffine(np.full_like(later, 255), move, size, flags=undo)
    inside = cv2.erode(shown, np.ones((5, 5), np.uint8), borderValue=0) == 255
    if inside.mean() < LEAST_OVERLAP:
        return 1.0
    difference = cv2.absdiff(cv2.blur(first, (3, 3)), cv2.blur(back, (3, 3)))
    return float((difference[inside] > MOVED_GREY_LEVELS).mean())


def sharpness(grey: np.ndarray) -> float:
    """Curvature over slope of the sharpest hundredth of the frame: below 0.65 nothing is in focus.

    The ratio of Laplacian to gradient is the inverse width of an edge, whatever its contrast: a smooth sky,
    fog and night leave it alone, and one subject in focus is enough. First, middle and last frame, the mean.
    """
    import cv2

    values = []
    for i in _spread(len(grey)):
        smooth = cv2.GaussianBlur(grey[i].astype(np.float32), (0, 0), 0.7)  # sensor noise is no edge
        # No cv2.magnitude: its last digit depends on where the result lies in memory (Intel's IPP).
        across, down = (cv2.Sobel(smooth, cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1)))
        curvature = cv2.Laplacian(smooth, cv2.CV_32F)
        parts = [
            cv2.blur(squared, (BLOCK_PIXELS,) * 2)[:: BLOCK_PIXELS // 2, :: BLOCK_PIXELS // 2]
            for squared in (curvature**2, across**2 + down**2)
        ]
        ratio = np.sqrt(np.maximum(parts[0], 0) / (np.maximum(parts[1], 0) + 1))
        values.append(float(np.percentile(ratio, 99)))
    return float(np.mean(values))


def perceptual_hash(frame: np.ndarray) -> str:
    """64-bit DCT hash of one frame as 16 hexadecimal digits."""
    import imagehash
    from PIL import Image

    return str(imagehash.phash(Image.fromarray(frame)))


def _spread(count: int) -> list[int]:
    """First, middle and last index."""
    return sorted({0, count // 2, count - 1})


def _quick_flow(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    import cv2

    return dis_flow(one, two, cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
