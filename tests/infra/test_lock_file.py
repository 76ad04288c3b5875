"""requirements.lock: exact versions of everything, from nowhere in particular."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_lock_file_pins_every_package_and_names_no_place():
    lines = [
        line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")
    ]
    assert all(line.count("==") == 1 for line in lines)
    assert not any(mark in line for line in lines for mark in ("/", "@", "+", " "))
    names = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    needed = {"torch", "ray", "deepspeed", "mlflow", "decord", "diffusers", "transformers", "pytest", "ruff"}
    assert needed <= names
    assert "factorized-dreamer" not in names
