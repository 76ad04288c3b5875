"""How labelled objects move in a video, by optical flow: direction, growth, or nothing.

A label says which motion an object was asked for and where it is in the first frame. The measure looks
at frames only: points on the object are carried from frame to frame by dense optical flow, the
background's flow (the camera) is taken off, and what is left in total, in units of the object's own size,
is compared with the motions of the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from pipelines.curation.flow import consistent, dis_flow

FLOW_SIDE_PIXELS = 128  # dense flow needs patches of several pixels: tiny frames are enlarged to this
GRID_POINTS = 24  # points across an object's box
LEAST_POINTS = 8
EDGE_PIXELS = 5
PROTOCOL = (
    f"DIS optical flow on frames resized to {FLOW_SIDE_PIXELS} px short side; points on the object "
    "(in its labelled box, which moves along; by colour against the surroundings in the first frame); "
    "per step the background's median flow is subtracted and a similarity fitted; the sum over all steps "
    "is matched by angle with the vocabulary, below the dead zone it is `still`"
)

# What moves an object out of `still`: share of its size (right, down), logarithm of its scale.
DEAD_ZONE = np.array([0.25, 0.25, 0.1])
# What counts alike once it moves: flow is surer of where an object goes than of its growth.
ALIKE = np.array([0.25, 0.25, 0.18])
LUMINANCE = np.array([0.299, 0.587, 0.114])
# (right, down, growth) of the motions that a label can name.
MOTIONS: dict[str, tuple[float, float, float]] = {
    "left": (-1, 0, 0),
    "right": (1, 0, 0),
    "up": (0, -1, 0),
    "down": (0, 1, 0),
    "up_left": (-1, -1, 0),
    "up_right": (1, -1, 0),
    "down_left": (-1, 1, 0),
    "down_right": (1, 1, 0),
    "grow": (0, 0, 1),
    "shrink": (0, 0, -1),
    "still": (0, 0, 0),
}
LOST = "lost"


@dataclass(frozen=True)
class LabelledObject:
    """motion: one of MOTIONS. box: (x0, y0, x1, y1) in the first frame, as shares of width and height."""

    motion: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Movement:
    """Total movement of an object from the first frame to the last, without the camera's.

    right, down: shares of the object's own size (root of its box's area). growth: logarithm of the
    change of scale. lost: it vanished inside the frame, which no motion is.
    """

    right: float
    down: float
    growth: float
    lost: bool = False

    def nearest(self, vocabulary: Sequence[str]) -> str:
        """The motion of the vocabulary that this movement is, or `lost`."""
        if self.lost:
            return LOST
        moved = np.array([self.right, self.down, self.growth])
        if "still" in vocabulary and np.linalg.norm(moved / DEAD_ZONE) < 1:
            return "still"
        directed = [motion for motion in vocabulary if motion != "still"]
        if not directed:
            return "still"
        prototypes = np.array([MOTIONS[motion] for motion in directed], float)
        prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
        return directed[int(np.argmax(prototypes @ (moved / ALIKE)))]


def parse_objects(labelled: Sequence[dict]) -> list[LabelledObject]:
    """Objects of one clip's label. Raises ValueError for an unknown motion or a box that is none."""
    objects = []
    for entry in labelled:
        motion, box = entry.get("motion"), tuple(entry.get("box", ()))
        if motion not in MOTIONS:
            raise ValueError(f"label names the motion {motion!r}, which is none of {', '.join(MOTIONS)}")
        if len(box) != 4 or not (box[0] < box[2] and box[1] < box[3]):
            raise ValueError(f"label needs a box [x0, y0, x1, y1] of shares of the frame, not {list(box)}")
        objects.append(LabelledObject(motion, box))
    return objects


@dataclass(frozen=True)
class VideoFlow:
    """frames (T, H, W, 3) uint8 at the size of the flow, grey (T, H, W) uint8, flow (T − 1, H, W, 2)."""

    frames: np.ndarray
    grey: np.ndarray
    flow: np.ndarray


def video_flow(frames: np.ndarray) -> VideoFlow:
    """Optical flow of a video (T, H, W, 3) uint8, in pixels of the enlarged (or shrunk) frames."""
    scale = FLOW_SIDE_PIXELS / min(frames.shape[1:3])
    size = (round(frames.shape[2] * scale), round(frames.shape[1] * scale))
    method = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    big = np.stack([cv2.resize(frame, size, interpolation=method) for frame in frames])
    grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in big])
    return VideoFlow(big, grey, dense_flow(grey))


def unoccluded(video: VideoFlow) -> np.ndarray:
    """(T − 1, H, W) bool: pixels that flow forward and back leads home, inside the frame.

    The check of Sundaram et al. 2010, which Lai et al. 2018 (arXiv 1808.00449) take for occlusion; their
    second one, at the edges of motion, is not made.
    """
    backward = dense_flow(video.grey[::-1])[::-1]
    return np.stack([consistent(*pair) for pair in zip(video.flow, backward, strict=True)])


def object_movements(video: VideoFlow, objects: Sequence[LabelledObject]) -> list[Movement]:
    """How each object moves."""
    if not len(video.flow):
        return [Movement(0, 0, 0) for _ in objects]
    height, width = video.grey.shape[1:]
    boxes = [np.array(thing.box, float) * [width, height, width, height] for thing in objects]
    camera = camera_motion(video, boxes)
    return [_movement(video.frames, box, boxes, camera) for box in boxes]


def dense_flow(grey: np.ndarray) -> np.ndarray:
    """(T, H, W) uint8 → (T − 1, H, W, 2) float32: pixels to the next frame, right and down."""
    if len(grey) < 2:
        return np.zeros((0, *grey.shape[1:], 2), np.float32)
    return np.stack([dis_flow(a, b, cv2.DISOPTICAL_FLOW_PRESET_FAST) for a, b in pairwise(grey)])


def camera_motion(video: VideoFlow, boxes: Sequence[np.ndarray]) -> np.ndarray:
    """(T − 1, 2): the background's displacement per step in pixels.

    Median flow outside the objects' boxes, over the pixels with most texture, for flow on plain ground is a
    guess. It is believed, right and down each for itself, only if the background as a whole is explained
    better with it: along the grain of wood flow follows the object.
    """
    grey = video.grey
    outside = np.ones(grey.shape[1:], bool)
    for box in boxes:
        outside &= ~_mask(grey[0], box, 0.15)
    outside = outside if outside.any() else np.ones_like(outside)
    moved = np.stack(
        [
            np.median(field[_textured(frame, outside)], axis=0)
            for field, frame in zip(video.flow, grey[:-1], strict=True)
        ]
    )
    soft = np.stack([cv2.GaussianBlur(frame, (0, 0), 4) for frame in grey])
    textured = _textured(soft[0], outside)
    candidates = [moved * axes for axes in ((0, 0), (1, 0), (0, 1), (1, 1))]
    errors = [_unexplained(soft, np.cumsum(steps, axis=0), textured) for steps in candidates]
    return next(steps for steps, error in zip(candidates, errors, strict=True) if error <= 1.1 * min(errors))


def _textured(grey: np.ndarray, where: np.ndarray) -> np.ndarray:
    """(H, W) bool: the half of the pixels of `where` with the steeper gradient."""
    squared = cv2.Sobel(grey, cv2.CV_32F, 1, 0) ** 2 + cv2.Sobel(grey, cv2.CV_32F, 0, 1) ** 2
    return where & (squared >= np.median(squared[where]))


def _unexplained(grey: np.ndarray, moved: np.ndarray, where: np.ndarray) -> float:
    """Difference of grey values on `where` between the first frame and later ones that are moved back.

    Median over the pixels that are still in the frame, mean over the frames.
    """
    errors, size = [], (grey.shape[2], grey.shape[1])
    for frame, (right, down) in zip(grey[1:], moved, strict=True):
        back = np.array([[1, 0, -right], [0, 1, -down]], np.float32)
        undone = cv2.warpAffine(frame.astype(np.float32), back, size, borderValue=np.nan)
        errors.append(np.nanmedian(np.abs(undone - grey[0])[where]))
    return float(np.mean(errors))


def _movement(
    frames: np.ndarray, box: np.ndarray, boxes: Sequence[np.ndarray], camera: np.ndarray
) -> Movement:
    others = [other for other in boxes if other is not box]
    look = _stand_out(frames[0], box, others)
    grey = _projected(frames, look)
    forward, backward = dense_flow(grey), dense_flow(grey[::-1])[::-1]
    size = float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))
    total, lost = np.zeros(3), False
    for step in range(len(forward)):
        there = _similarity(_points_on(grey[step], box, look), forward[step])
        if there is None:
            # Gone from the frame: what was seen until then counts. Gone in its middle: it dissolved.
            lost = _visible(box, grey.shape[1:]) >= 0.5
            break
        # Flow sees growth well and shrinking badly (the ground that appears drags it to zero): back in
        # time one is the other, so the mean of both ways favours neither.
        back = _similarity(_points_on(grey[step + 1], _moved_box(box, there), look), backward[step])
        moved = there if back is None else (there - back) / 2
        box = _moved_box(box, moved)
        moved[:2] = (moved[:2] - camera[step]) / size
        total += moved
    right, down, growth = map(float, total)
    return Movement(right, down, growth, lost)


@dataclass(frozen=True)
class Look:
    """The colour axis (3,) that tells an object from its surroundings best, and the value between them.

    threshold: None when nothing in the box stands out; then all of the box is taken for the object.
    """

    axis: np.ndarray
    threshold: float | None


def _stand_out(frame: np.ndarray, box: np.ndarray, others: Sequence[np.ndarray]) -> Look:
    """Fisher's discriminant of what is least like a ring around the box (a quarter of it) against that ring.

    Objects of the same luminance as the ground are common; a grey picture would not show them.
    """
    whole = _mask(frame, box)
    ring = _mask(frame, box, 0.35) & ~whole
    for other in others:
        ring &= ~_mask(frame, other)
    around, inside = frame[ring].astype(np.float64), frame[whole].astype(np.float64)
    if min(len(around), len(inside)) < 32:
        return Look(LUMINANCE, None)
    mean, spread = around.mean(0), np.cov(around[::2].T) + 25 * np.eye(3)
    apart = inside - mean
    unlike = np.einsum("nc,nc->n", apart @ np.linalg.inv(spread), apart)
    thing = inside[unlike >= np.quantile(unlike, 0.75)]
    axis = np.linalg.solve(spread + np.cov(thing[::2].T), thing.mean(0) - mean)
    length = float(np.linalg.norm(axis))
    if length < 1e-9:
        return Look(LUMINANCE, None)
    axis /= length
    threshold = float(np.median(around @ axis) + np.median(thing @ axis)) / 2
    covered = (inside @ axis > threshold).mean()
    return Look(axis, threshold if covered >= 0.05 else None)


def _mask(frame: np.ndarray, box: np.ndarray, grown: float = 0.0) -> np.ndarray:
    """(H, W) bool: the pixels of a box that is grown on each side by a share of its own size."""
    reach = grown * np.array([box[2] - box[0], box[3] - box[1]])
    x0, y0 = np.maximum(box[:2] - reach, 0).round().astype(int)
    x1, y1 = np.maximum(box[2:] + reach, 0).round().astype(int)
    mask = np.zeros(frame.shape[:2], bool)
    mask[y0:y1, x0:x1] = True
    return mask


def _moved_box(box: np.ndarray, moved: np.ndarray) -> np.ndarray:
    centre, half = (box[:2] + box[2:]) / 2 + moved[:2], (box[2:] - box[:2]) / 2 * np.exp(moved[2])
    return np.concatenate([centre - half, centre + half])


def _visible(box: np.ndarray, shape: tuple[int, ...]) -> float:
    """Share of a box that lies in the frame."""
    limits = np.array([shape[1], shape[0]])
    seen = (np.minimum(box[2:], limits) - np.maximum(box[:2], 0)).clip(0)
    return float(np.prod(seen / (box[2:] - box[:2])))


def _projected(frames: np.ndarray, look: Look) -> np.ndarray:
    """(T, H, W, 3) → (T, H, W) uint8 along a colour axis, one contrast for all frames.

    Values above the threshold (the object's) lie above 127.
    """
    grey = frames.astype(np.float32) @ look.axis.astype(np.float32)
    low, high = np.quantile(grey[0], 0.002), np.quantile(grey[0], 0.998)
    middle = (low + high) / 2 if look.threshold is None else look.threshold
    reach = max(high - middle, middle - low, 1e-3)
    return np.clip(127.5 + (grey - middle) * (127.5 / reach), 0, 255).astype(np.uint8)


def _points_on(grey: np.ndarray, box: np.ndarray, look: Look) -> np.ndarray:
    """(N, 2) points (x, y) of a grid over the box that lie on the object."""
    xs, ys = np.meshgrid(np.linspace(box[0], box[2], GRID_POINTS), np.linspace(box[1], box[3], GRID_POINTS))
    points = np.stack([xs.ravel(), ys.ravel()], 1)
    points = points[_inside(points, grey.shape)]
    if look.threshold is None:
        return points
    return points[grey[points[:, 1].astype(int), points[:, 0].astype(int)] > 127]


def _inside(points: np.ndarray, shape: tuple[int, ...], margin: float = 2) -> np.ndarray:
    return np.all((points >= margin) & (points <= np.array([shape[1], shape[0]]) - 1 - margin), axis=1)


def _sample(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Bilinear values (N, 2) of a flow field at points (N, 2)."""
    maps = points.astype(np.float32)[None]
    return cv2.remap(field, maps[..., 0], maps[..., 1], cv2.INTER_LINEAR)[0].astype(np.float64)


def _similarity(points: np.ndarray, flow: np.ndarray) -> np.ndarray | None:
    """(right, down, logarithm of scale) of points in a flow field.

    Least squares on the points that agree with each other. An object that the frame's edge cuts shows where
    it goes, but not how it grows: only its median shift is taken. None below LEAST_POINTS.
    """
    if len(points) < LEAST_POINTS:
        return None
    moved = _sample(flow, points)
    if (~_inside(points, flow.shape, EDGE_PIXELS)).mean() > 0.02:
        return np.array([*np.median(moved, axis=0), 0.0])
    keep = np.ones(len(points), bool)
    for _ in range(3):
        p, q = points[keep], points[keep] + moved[keep]
        p_mean, q_mean = p.mean(0), q.mean(0)
        a, b = p - p_mean, q - q_mean
        norm = max(float((a * a).sum()), 1e-9)
        cosine = float((a * b).sum()) / norm
        sine = float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / norm
        fitted = (points - p_mean) @ np.array([[cosine, sine], [-sine, cosine]]) + q_mean
        error = np.linalg.norm(fitted - points - moved, axis=1)
        keep = error <= max(2.5 * float(np.median(error)), 0.25)
    scale = max(float(np.hypot(cosine, sine)), 0.1)
    return np.array([*(q_mean - p_mean), np.log(scale)])
