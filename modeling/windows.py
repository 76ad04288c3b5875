"""Videos longer than the model was trained on: windows in time that overlap."""


def frame_windows(frames: int, window: int, overlap: int) -> list[tuple[int, int]]:
    """(start, stop) of windows of `window` frames that cover `frames`; neighbours share `overlap`.

    The last window ends with the video and so may overlap by more. Windows are continued one after another
    instead of drawn at once and averaged: the model is told the first frame of what it draws, and a window
    in the middle of the video has that only when the one before is finished.
    Raises ValueError when a window would draw nothing new, or start from no known frame.
    """
    if frames < 1:
        raise ValueError(f"num_frames must be at least 1, not {frames}")
    if frames <= window:
        return [(0, frames)]
    if not 1 <= overlap < window:
        raise ValueError(
            f"windows of {window} frames must overlap by 1 to {window - 1} frames, not {overlap}: "
            "change overlap_frames or window_frames"
        )
    starts = [*range(0, frames - window, window - overlap), frames - window]
    return [(start, start + window) for start in starts]
