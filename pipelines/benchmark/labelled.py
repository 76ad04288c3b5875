"""The labelled test set of the filters: for each, footage it must refuse and footage it must let pass.

The hard cases are those that a simpler score gets wrong: a small thing that moves before a camera that
stands still, a sky that is smooth without being blurred, a wall of bricks that is no text.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pipelines.benchmark import footage, overlays
from pipelines.benchmark.studio import Film, Rng, Studio

WEBVID = "source=webvid"  # judged by that source's thresholds


@dataclass(frozen=True)
class Kind:
    """One kind of footage. `refuse` None: measured and reported, but not counted."""

    name: str
    refuse: bool | None
    make: Callable[[Studio, Rng], Film]


KINDS: dict[str, tuple[Kind, ...]] = {
    "motion": (
        Kind("creeping pan", True, footage.creeping_pan),
        Kind("noise before a still camera", True, footage.noisy_standstill),
        Kind("flickering lamp", True, footage.flickering_lamp),
        Kind("small thing, still camera", False, footage.small_thing_before_a_still_camera),
        Kind("slow pan", False, footage.slow_pan),
        Kind("good shot", False, footage.good_shot),
    ),
    "static": (
        Kind("photo", True, footage.photo),
        Kind("photo with grain", True, footage.grainy_photo),
        Kind("slideshow with hard cuts", True, footage.hard_cut_slideshow),
        Kind("title card", True, footage.still_card),
        Kind("small thing, still camera", False, footage.small_thing_before_a_still_camera),
        Kind("swaying, still camera", False, footage.swaying_before_a_still_camera),
        Kind("handheld, nothing moves", False, footage.handheld_standstill),
        Kind("good shot", False, footage.good_shot),
    ),
    "slideshow": (
        Kind("Ken Burns pan", True, footage.ken_burns_pan),
        Kind("Ken Burns zoom", True, footage.ken_burns_zoom),
        Kind("Ken Burns roll", True, footage.ken_burns_roll),
        Kind("pan with a thing", False, footage.pan_with_a_thing),
        Kind("small thing, still camera", False, footage.small_thing_before_a_still_camera),
        Kind("good shot", False, footage.good_shot),
        Kind("crossfaded slideshow", None, footage.crossfaded_slideshow),
    ),
    "text": (
        Kind("subtitles", True, footage.overlaid(overlays.subtitles)),
        Kind("lower third", True, footage.overlaid(overlays.lower_third)),
        Kind("news banner", True, footage.overlaid(overlays.news_banner)),
        Kind("big caption", True, footage.overlaid(overlays.big_caption)),
        Kind("credits", True, footage.scrolling_credits),
        Kind("title card", True, footage.still_card),
        Kind("bricks, windows, wire", False, footage.wall_of_strokes),
        Kind("street sign", False, footage.street_sign),
        Kind("good shot", False, footage.good_shot),
    ),
    "watermark": (
        Kind("centred watermark", True, footage.overlaid(overlays.centred_watermark)),
        Kind("tiled watermark", True, footage.overlaid(overlays.tiled_watermark)),
        Kind("corner logo", True, footage.overlaid(overlays.corner_logo)),
        Kind("seller's address", True, footage.overlaid(overlays.address_bar)),
        Kind("bricks, windows, wire", False, footage.wall_of_strokes),
        Kind("street sign", False, footage.street_sign),
        Kind("good shot", False, footage.good_shot),
        Kind("sign, still camera", None, footage.sign_before_a_still_camera),
    ),
    "sharpness": (
        Kind("out of focus", True, footage.out_of_focus),
        Kind("defocused, with noise", True, footage.defocused_disc),
        Kind("enlarged thumbnail", True, footage.enlarged_thumbnail),
        Kind("smooth sky", False, footage.thing_before_smooth_sky),
        Kind("shallow focus", False, footage.shallow_focus),
        Kind("fog", False, footage.fog),
        Kind("night", False, footage.night),
        Kind("good shot", False, footage.good_shot),
        Kind("motion blur", None, footage.motion_blur),
    ),
    "too dark": (
        Kind("black", True, footage.black),
        Kind("lens cap", True, footage.lens_cap),
        Kind("night", False, footage.night),
        Kind("dusk", False, footage.dusk),
        Kind("low key", False, footage.low_key),
    ),
    "too bright": (
        Kind("white", True, footage.white),
        Kind("overexposed", True, footage.overexposed),
        Kind("snow", False, footage.snow),
        Kind("white studio", False, footage.white_studio),
        Kind("good shot", False, footage.good_shot),
    ),
    WEBVID: (
        Kind("title card", True, footage.preview(footage.preview_card)),
        Kind("big caption", True, footage.overlaid_preview(overlays.big_caption)),
        Kind("credits", True, footage.preview(footage.preview_credits)),
        Kind("good shot", False, footage.preview(footage.preview_shot)),
        Kind("subtitles", None, footage.overlaid_preview(overlays.subtitles)),
    ),
}
