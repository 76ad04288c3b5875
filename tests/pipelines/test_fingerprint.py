"""Fingerprints: equal for equal data, in every process; different for every difference."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.fingerprint import fingerprint, source_fingerprint
from pipelines.recipe import Bucket

GOLDEN = "071c57491dd793aa82b38de61b68153fd1eaaaafe716ccafff6f99918ffd0671"


@dataclass(frozen=True)
class Span:
    start_seconds: float
    end_seconds: float


def test_the_order_of_keys_does_not_matter():
    assert fingerprint({"a": 1, "b": [2, 3]}) == fingerprint({"b": (2, 3), "a": 1})


def test_a_whole_number_is_one_setting_however_it_is_written():
    assert fingerprint(8) == fingerprint(8.0)
    assert fingerprint(1) != fingerprint(True)
    assert fingerprint("8") != fingerprint(8)


@pytest.mark.parametrize(
    "other",
    [{"a": 2}, {"a": 1, "b": None}, [{"a": 1}], "a", {"A": 1}],
)
def test_every_difference_shows(other):
    assert fingerprint({"a": 1}) != fingerprint(other)


def test_parts_are_not_run_together():
    assert fingerprint("ab", "c") != fingerprint("a", "bc")


def test_models_dataclasses_paths_and_sets_have_fingerprints():
    assert fingerprint(Bucket(frames=8, height=32, width=48)) == fingerprint("8x32x48")
    assert fingerprint(Span(0, 1.5)) == fingerprint({"start_seconds": 0, "end_seconds": 1.5})
    assert fingerprint(Path("a/b")) == fingerprint("a/b")
    assert fingerprint({"x", "y", "z"}) == fingerprint({"z", "y", "x"})


def test_what_would_never_hash_alike_twice_is_refused():
    with pytest.raises(TypeError, match="cannot fingerprint a function"):
        fingerprint(fingerprint)
    with pytest.raises(ValueError, match="NaN"):
        fingerprint(float("nan"))
    with pytest.raises(TypeError, match="keys"):
        fingerprint({1: "a"})


def test_the_fingerprint_is_the_same_in_every_process():
    call = "fingerprint({'fps': 8, 'tiers': {'a', 'b', 'ᾱ'}})"
    program = f"from pipelines.fingerprint import fingerprint; print({call})"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == fingerprint({"fps": 8, "tiers": {"a", "b", "ᾱ"}}) == GOLDEN


def test_code_has_a_fingerprint_that_changes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "somepackage"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = source_fingerprint("somepackage")
    assert source_fingerprint("somepackage") == before
    (package / "inner.py").write_text("x = 2\n")
    assert source_fingerprint("somepackage") != before
    with pytest.raises(ModuleNotFoundError):
        source_fingerprint("nopackage")
