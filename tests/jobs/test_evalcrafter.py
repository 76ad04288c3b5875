"""`dreamer evalcrafter score` as a person and a script see it."""

import json
from pathlib import Path

from pipelines.evaluation.metrics import EVALCRAFTER_METRICS
from tests.jobs.test_cli import dreamer

METRICS = dict.fromkeys(EVALCRAFTER_METRICS, 0.5) | {"VQA_A": 60, "VQA_T": 70, "IS": 15, "flow": 2}
METRICS |= {"clip_temp": 0.998, "warp": 0.01, "face": 0.99, "clip": 0.2, "blip_bleu": 0.2, "celeb": 0.4}


def test_scores_stand_among_the_published_ones(tmp_path: Path) -> None:
    file = tmp_path / "metrics.json"
    file.write_text(json.dumps(METRICS))
    done = dreamer("evalcrafter", "score", file)
    assert done.returncode == 0
    lines = [line.strip() for line in done.stdout.splitlines()]
    gen2, ours, last = (
        next(number for number, line in enumerate(lines) if line.startswith(name))
        for name in ("Gen-2", "these videos", "ModelScope")
    )
    assert gen2 < ours < last  # by total
    assert "254  (Jin et al. 2024, arXiv 2410.05954, table 2)" in lines[gen2]
    assert "visual 6" in lines[ours]


def test_a_missing_metric_is_an_error_that_names_it_and_nothing_else_is_printed(tmp_path: Path) -> None:
    file = tmp_path / "metrics.json"
    file.write_text(json.dumps({name: value for name, value in METRICS.items() if name != "count"}))
    done = dreamer("evalcrafter", "score", file, "--json")
    assert done.returncode == 1
    assert "lacks 1 of 17 metrics: count (a key count_score)" in json.loads(done.stdout)["error"]
    assert "Traceback" not in done.stderr
