"""Cuts between shots, found while frames go by: PySceneDetect's detectors fed from memory."""

from typing import Any

import numpy as np

from pipelines.recipe import ShotSettings

# The content detector may merge cuts closer than its shortest scene (15 frames) and report them that late.
LONGEST_LAG_FRAMES = 32


class CutDetector:
    """Feed the frames of a video in order; cuts come back up to `LONGEST_LAG_FRAMES` later."""

    def __init__(self, settings: ShotSettings, fps: float) -> None:
        self._detector = _detector(settings)
        self._fps = fps
        self._last: Any = None

    def feed(self, index: int, frame: np.ndarray) -> list[int]:
        """Indices of the first frames of new shots that this frame, (H, W, 3) uint8 RGB, made certain."""
        if self._detector is None:
            return []
        from scenedetect import FrameTimecode

        self._last = FrameTimecode(index, fps=self._fps)
        bgr = np.ascontiguousarray(frame[:, :, ::-1])
        return [int(cut.frame_num) for cut in self._detector.process_frame(self._last, bgr)]

    def finish(self) -> list[int]:
        """Cuts that only the end of the video made certain."""
        if self._detector is None or self._last is None:
            return []
        return [int(cut.frame_num) for cut in self._detector.post_process(self._last)]


def _detector(settings: ShotSettings) -> Any:
    from scenedetect.detectors import AdaptiveDetector, ContentDetector

    match settings.detector, settings.threshold:
        case "none", _:
            return None
        case "adaptive", None:
            return AdaptiveDetector()
        case "adaptive", threshold:
            return AdaptiveDetector(adaptive_threshold=threshold)
        case _, None:
            return ContentDetector()
        case _, threshold:
            return ContentDetector(threshold=threshold)
