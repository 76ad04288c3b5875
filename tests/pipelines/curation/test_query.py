"""The query: filters, buckets, verdicts of sources."""

from typing import Any

from pipelines.curation.forecast import forecast
from pipelines.curation.query import best_buckets, filter_reason, source_verdict
from pipelines.recipe import CurationSettings, FilterSettings

SCORES = {"motion_score": 3.0, "static_score": 0.1, "scene_change": 0.2, "text_area": 0.0}
SCORES |= {"watermark_area": 0.0, "sharpness": 1.5, "luminance": 120.0}
SCORES |= {"aesthetic_score": 5.5, "text_match": 0.3}


def test_each_filter_names_score_and_threshold() -> None:
    cases: list[tuple[dict[str, Any], dict[str, float], str]] = [
        ({"max_static": 0.8}, {"static_score": 0.9}, "static: 0.9 > 0.8"),
        ({"max_text_area": 0.03}, {"text_area": 0.2}, "text_overlay: 0.2 > 0.03"),
        ({"min_motion": 1}, {"motion_score": 0.5}, "low_motion: 0.5 < 1"),
        ({"max_motion": 50}, {"motion_score": 70.0}, "high_motion: 70 > 50"),
        ({"max_watermark_area": 0.01}, {"watermark_area": 0.05}, "watermark: 0.05 > 0.01"),
        ({"min_scene_change": 0.01}, {"scene_change": 0.002}, "slideshow: 0.002 < 0.01"),
        ({"min_sharpness": 0.6}, {"sharpness": 0.4}, "blurred: 0.4 < 0.6"),
        ({"min_luminance": 10}, {"luminance": 4.0}, "too_dark: 4 < 10"),
        ({"max_luminance": 250}, {"luminance": 254.0}, "too_bright: 254 > 250"),
        ({"min_aesthetic": 4.5}, {"aesthetic_score": 3.75}, "unaesthetic: 3.75 < 4.5"),
        ({"min_text_match": 0.2}, {"text_match": -0.1}, "caption_mismatch: -0.1 < 0.2"),
    ]
    for filters, score, expected in cases:
        assert filter_reason(SCORES | score, FilterSettings.model_validate(filters)) == expected
        assert filter_reason(SCORES, FilterSettings.model_validate(filters)) is None
        assert filter_reason(SCORES | score, FilterSettings()) is None


def test_one_bucket_of_each_tier_by_aspect_ratio_and_without_enlarging() -> None:
    curation = CurationSettings.model_validate(
        {"tiers": {"low": ["8x32x32"], "high": ["8x320x512", "8x512x320", "8x160x256"]}}
    )
    assert list(map(str, best_buckets(1920, 1080, 8, curation))) == ["8x32x32", "8x320x512"]
    assert list(map(str, best_buckets(1080, 1920, 8, curation))) == ["8x32x32", "8x512x320"]
    assert list(map(str, best_buckets(256, 160, 8, curation))) == ["8x32x32", "8x160x256"]
    assert list(map(str, best_buckets(64, 48, 8, curation))) == ["8x32x32"]
    assert best_buckets(16, 16, 8, curation) == []


def test_a_clip_goes_to_the_longest_bucket_that_it_fills() -> None:
    curation = CurationSettings.model_validate({"tiers": {"only": ["8x64x64", "16x64x64", "16x64x112"]}})
    assert list(map(str, best_buckets(640, 640, 16, curation))) == ["16x64x64"]
    assert list(map(str, best_buckets(640, 640, 8, curation))) == ["8x64x64"]
    assert list(map(str, best_buckets(1120, 640, 8, curation))) == ["8x64x64"]
    assert best_buckets(640, 640, 4, curation) == []


def test_the_forecast_names_empty_buckets_and_sums_what_is_dropped() -> None:
    curation = CurationSettings.model_validate(
        {"fps": 8, "tiers": {"low": ["8x32x32"], "high": ["16x64x64"]}}
    )
    units = [
        {"wanted_buckets": {"8x32x32": 60}, "reasons": {"static": 2, "too_small": 1}},
        {"wanted_buckets": {"8x32x32": 60}, "reasons": {"static": 3}},
    ]
    told = forecast(units, curation)
    assert told["buckets"] == [
        {"tier": "low", "bucket": "8x32x32", "clips": 120, "minutes": 2.0},
        {"tier": "high", "bucket": "16x64x64", "clips": 0, "minutes": 0.0},
    ]
    assert told["dropped"] == {"too_small": 1, "static": 5}


def test_a_source_counts_once_by_its_best_clip() -> None:
    assert source_verdict({"filtered", "kept"}) == "kept"
    assert source_verdict({"filtered", "failed"}) == "failed"
    assert source_verdict({"filtered"}) == "filtered"
