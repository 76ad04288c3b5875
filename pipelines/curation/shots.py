"""Cuts between shots, found while frames go by: PySceneDetect's detectors fed from memory, or TransNetV2."""

from collections import deque
from typing import Any, Protocol

import numpy as np

from pipelines.curation.video import Picture
from pipelines.recipe import ShotSettings

CUT_SIDE_PIXELS = 128  # the detectors find the same cuts as at 256 or 512, in less time
FLASH_FRAMES = 3  # light that is back to what it was after so many frames is no cut
FLASH_SHARE = 0.5
LOOK_PIXELS = 32
# PySceneDetect's adaptive detector asks for 15; cuts within one place, of the same colours, have about 10.
LEAST_CHANGE = 8.0


class CutDetector(Protocol):
    """Feed the frames of a video in order; cuts come back up to `lag_frames` later."""

    lag_frames: int

    def feed(self, picture: Picture) -> list[int]:
        """Indices of the first frames of new shots that this picture made certain."""

    def finish(self) -> list[int]:
        """Cuts that only the end of the video made certain."""


def cut_detector(settings: ShotSettings, fps: float) -> CutDetector:
    match settings.detector:
        case "none":
            return NoCuts()
        case "transnetv2":
            from pipelines.curation.transnet import TransNetCuts

            assert settings.weights is not None
            return TransNetCuts(settings.weights, settings.threshold)
        case _:
            return SceneDetectCuts(settings, fps)


class NoCuts:
    """A file is one shot."""

    lag_frames = 0

    def feed(self, picture: Picture) -> list[int]:
        return []

    def finish(self) -> list[int]:
        return []


class SceneDetectCuts:
    """PySceneDetect's cuts, without those that are flashes of light."""

    # The content detector may merge cuts closer than its shortest scene (15 frames), and report them late.
    lag_frames = 32 + FLASH_FRAMES

    def __init__(self, settings: ShotSettings, fps: float) -> None:
        from scenedetect import FrameTimecode

        self._detector = _scene_detector(settings)
        self._clock = FrameTimecode(0, fps=fps)  # of which others take over the rate, which is dear to parse
        self._last: Any = None
        self._recent: deque[tuple[int, np.ndarray]] = deque(maxlen=self.lag_frames + FLASH_FRAMES + 1)
        self._unconfirmed: list[int] = []

    def feed(self, picture: Picture) -> list[int]:
        import cv2
        from scenedetect import FrameTimecode

        index, frame = picture.index, picture.small(CUT_SIDE_PIXELS)
        self._recent.append((index, frame))
        self._last = FrameTimecode(index, fps=self._clock)
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        self._unconfirmed += [int(cut.frame_num) for cut in self._detector.process_frame(self._last, bgr)]
        return self._confirmed(index - FLASH_FRAMES)

    def finish(self) -> list[int]:
        if self._last is None:
            return []
        self._unconfirmed += [int(cut.frame_num) for cut in self._detector.post_process(self._last)]
        return self._confirmed(int(self._last.frame_num))

    def _confirmed(self, until: int) -> list[int]:
        ripe = [cut for cut in self._unconfirmed if cut <= until]
        self._unconfirmed = [cut for cut in self._unconfirmed if cut > until]
        return [cut for cut in ripe if not self._is_flash(cut)]

    def _is_flash(self, cut: int) -> bool:
        """Whether some picture soon after the jump is like one shortly before it."""
        near = {i: _look(f) for i, f in self._recent if abs(i - cut + 0.5) < FLASH_FRAMES + 1}
        before = [picture for index, picture in near.items() if index < cut]
        after = [picture for index, picture in near.items() if index >= cut]
        jump = _difference(before[-1], after[0])
        return min(_difference(one, other) for one in before for other in after) < FLASH_SHARE * jump


def _scene_detector(settings: ShotSettings) -> Any:
    from scenedetect.detectors import AdaptiveDetector, ContentDetector

    match settings.detector, settings.threshold:
        case "adaptive", None:
            return AdaptiveDetector(min_content_val=LEAST_CHANGE)
        case "adaptive", threshold:
            return AdaptiveDetector(adaptive_threshold=threshold, min_content_val=LEAST_CHANGE)
        case _, None:
            return ContentDetector()
        case _, threshold:
            return ContentDetector(threshold=threshold)


def _look(frame: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.resize(frame, (LOOK_PIXELS, LOOK_PIXELS), interpolation=cv2.INTER_AREA).astype(np.int16)


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())
