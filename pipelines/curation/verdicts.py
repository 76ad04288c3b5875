"""Verdicts and the codes of their reasons.

A reason is one code of `REASONS`, with a detail after a colon: `incomplete: 144 of 300 frames`.
"""

from dataclasses import dataclass
from typing import Any, Literal

from pipelines.secrets import without_secrets

KEPT = "kept"
FILTERED = "filtered"
FAILED = "failed"
QUARANTINED = "quarantined"
VERDICTS = (KEPT, FILTERED, FAILED, QUARANTINED)
PRECEDENCE = (KEPT, QUARANTINED, FAILED, FILTERED)  # a source has the first of these that a row of it has

REASONS = {
    # failed: the source cannot be read
    "not_found": "no such file or address",
    "bad_address": "no path or address that can be looked up",
    "outside_root": "neither data.root nor data.more_roots holds it",
    "private_address": "a server that is not on the public internet, nor in data.private_networks",
    "refused": "the server does not give it to us (HTTP 401, 403 or 451)",
    "download_failed": "the server did not answer, or not well, after several tries",
    "empty_file": "a file of zero bytes",
    "not_a_video": "no container format that the decoder knows",
    "no_video_stream": "a media file without pictures, such as audio only",
    "incomplete": "the file ends before its index or header says so",
    "undecodable": "the decoder gave up on a frame",
    "corrupt": "the decoder made up pictures where the file is damaged",
    "changed": "the clip could be scored, but no longer be read for precompute",
    # quarantined: the source killed or hung the decoder
    "decoder_timeout": "the decoder said nothing for decode.timeout_seconds",
    "decoder_crashed": "the decoder process died",
    "decoder_memory": "the decoder process grew over decode.max_memory_gb",
    # filtered: readable, but not wanted
    "excluded": "taken down by data.exclude_sources",
    "no_caption": "the table has no words for it",
    "too_short": "the shot is shorter than the shortest bucket",
    "too_small": "every bucket would enlarge it by more than precompute.max_upscale",
    "static": "share of unchanged frame pairs above max_static",
    "slideshow": "one picture under a moving camera: scene_change below min_scene_change",
    "low_motion": "motion below min_motion",
    "high_motion": "motion above max_motion",
    "text_overlay": "share of the frame under text above max_text_area",
    "watermark": "share of the frame under text that stays in its place above max_watermark_area",
    "blurred": "sharpness below min_sharpness",
    "too_dark": "luminance below min_luminance",
    "too_bright": "luminance above max_luminance",
    "unaesthetic": "aesthetic score below min_aesthetic",
    "caption_mismatch": "caption and picture are unlike: text_match below min_text_match",
    "duplicate": "nearly the picture of another source's clip",
}


@dataclass(frozen=True)
class Limit:
    """A threshold of curation.filters: which score it bounds, from which side, and the reason it gives."""

    code: str
    score: str
    setting: str
    side: Literal["above", "below"]  # of the threshold, is refused

    def refuses(self, value: Any, threshold: float) -> Any:
        """bool, or an array of them for an array of values."""
        return value > threshold if self.side == "above" else value < threshold


LIMITS = (  # in the order in which they are asked: a clip has the reason of the first that refuses it
    Limit("static", "static_score", "max_static", "above"),
    Limit("text_overlay", "text_area", "max_text_area", "above"),
    Limit("watermark", "watermark_area", "max_watermark_area", "above"),
    Limit("high_motion", "motion_score", "max_motion", "above"),
    Limit("too_bright", "luminance", "max_luminance", "above"),
    Limit("slideshow", "scene_change", "min_scene_change", "below"),
    Limit("low_motion", "motion_score", "min_motion", "below"),
    Limit("blurred", "sharpness", "min_sharpness", "below"),
    Limit("too_dark", "luminance", "min_luminance", "below"),
    Limit("unaesthetic", "aesthetic_score", "min_aesthetic", "below"),
    Limit("caption_mismatch", "text_match", "min_text_match", "below"),
)


class CurationError(RuntimeError):
    """A curation that cannot go on; the message says why and what to do."""


def reason(code: str, detail: str = "") -> str:
    """`code: detail`, with a code of the documented list; without passwords and signatures of addresses."""
    if code not in REASONS:
        raise KeyError(f"{code!r} is not a documented reason")
    return f"{code}: {without_secrets(detail)}" if detail else code


def code_of(reason_text: str) -> str:
    return reason_text.partition(":")[0]


EXCLUDED = reason("excluded")
