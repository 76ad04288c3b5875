"""How much of a known watermark is in a video: the filter that is matched to it.

A stock site's mark lies at one place in all its videos. A model that was trained on them is asked for
unmarked ones; what it adds by itself is found by correlating its frames with the mark.
"""

from pathlib import Path

import cv2
import numpy as np

LOCAL_SHARE = 1 / 16  # of the height: what is smoother than this is picture, not mark
THRESHOLD = 0.2  # of the correlation; the real clean videos beside it say how often it is passed by chance


def read_mark(path: Path | str) -> np.ndarray:
    """(H, W) float32: a picture of the mark alone, light on black, as large as the frames it lies over.

    Raises FileNotFoundError when it is not there or no picture.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise FileNotFoundError(
            f"no picture of a watermark at {path}: give one that cv2 reads, such as a PNG"
        )
    return picture.astype(np.float32)


def watermark_correlation(frames: np.ndarray, mark: np.ndarray) -> float:
    """Correlation of the mark with the mean of the frames after the first, −1 to 1.

    Of both only what is not smooth is compared. frames: (T, H, W, 3) uint8; the first is given to a model
    and says nothing about it. mark: as `read_mark`; it is scaled to the frames.
    """
    height, width = frames.shape[1:3]
    wanted = _details(cv2.resize(mark, (width, height), interpolation=cv2.INTER_AREA))
    found = _details(frames[1:].astype(np.float32).mean((0, 3)))
    norm = float(np.sqrt((wanted**2).sum() * (found**2).sum()))
    return float((wanted * found).sum()) / norm if norm > 0 else 0.0


def _details(grey: np.ndarray) -> np.ndarray:
    return grey - cv2.GaussianBlur(grey, (0, 0), grey.shape[0] * LOCAL_SHARE)
