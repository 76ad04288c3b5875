"""The query: filters, buckets, verdicts of sources."""

from typing import Any

from pipelines.curation.query import best_buckets, filter_reason, source_verdict
from pipelines.recipe import CurationSettings, FilterSettings

SCORES = {"motion_score": 3.0, "static_score": 0.1, "text_area": 0.0, "sharpness": 200.0, "luminance": 120.0}


def test_each_filter_names_score_and_threshold() -> None:
    cases: list[tuple[dict[str, Any], dict[str, float], str]] = [
        ({"max_static": 0.8}, {"static_score": 0.9}, "static: 0.9 > 0.8"),
        ({"max_text_area": 0.03}, {"text_area": 0.2}, "text_overlay: 0.2 > 0.03"),
        ({"min_motion": 1}, {"motion_score": 0.5}, "low_motion: 0.5 < 1"),
        ({"max_motion": 50}, {"motion_score": 70.0}, "high_motion: 70 > 50"),
        ({"min_sharpness": 10}, {"sharpness": 4.0}, "blurred: 4 < 10"),
        ({"min_luminance": 10}, {"luminance": 4.0}, "too_dark: 4 < 10"),
        ({"max_luminance": 250}, {"luminance": 254.0}, "too_bright: 254 > 250"),
    ]
    for filters, score, expected in cases:
        assert filter_reason(SCORES | score, FilterSettings.model_validate(filters)) == expected
        assert filter_reason(SCORES, FilterSettings.model_validate(filters)) is None
        assert filter_reason(SCORES | score, FilterSettings()) is None


def test_one_bucket_of_each_tier_by_aspect_ratio_and_without_enlarging() -> None:
    curation = CurationSettings.model_validate(
        {"tiers": {"low": ["8x32x32"], "high": ["8x320x512", "8x512x320", "8x160x256"]}}
    )
    assert list(map(str, best_buckets(1920, 1080, curation))) == ["8x32x32", "8x320x512"]
    assert list(map(str, best_buckets(1080, 1920, curation))) == ["8x32x32", "8x512x320"]
    assert list(map(str, best_buckets(256, 160, curation))) == ["8x32x32", "8x160x256"]
    assert list(map(str, best_buckets(64, 48, curation))) == ["8x32x32"]
    assert best_buckets(16, 16, curation) == []


def test_a_source_counts_once_by_its_best_clip() -> None:
    assert source_verdict({"filtered", "kept"}) == "kept"
    assert source_verdict({"filtered", "failed"}) == "failed"
    assert source_verdict({"filtered"}) == "filtered"
