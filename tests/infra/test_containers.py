"""Dockerfile and compose file: read by hadolint and by a parser of the Compose specification."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "infra" / "Dockerfile"
COMPOSE = ROOT / "infra" / "mlflow" / "compose.yaml"


def hadolint(file: Path) -> list[str]:
    """What hadolint says of a Dockerfile, line by line."""
    here = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    command = shutil.which("hadolint", path=here)
    assert command, "hadolint is not installed: make setup"
    done = subprocess.run([command, "--no-color", str(file)], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines()


def test_hadolint_has_nothing_against_the_dockerfile_and_would_see_what_is_wrong(tmp_path: Path):
    assert hadolint(DOCKERFILE) == []
    spoiled = tmp_path / "Dockerfile"
    spoiled.write_text(DOCKERFILE.read_text().replace("COPY . ", "COPI . "))
    assert any("unexpected" in line for line in hadolint(spoiled))
    spoiled.write_text("FROM python:latest\nRUN cd /tmp && sudo ls\n")
    assert len(hadolint(spoiled)) >= 2


def stages() -> dict[str, str]:
    """The stages of the Dockerfile by name."""
    parts = re.split(r"^FROM (\S+) AS (\S+)$", DOCKERFILE.read_text(), flags=re.MULTILINE)[1:]
    return dict(zip(parts[1::3], parts[2::3], strict=True))


@pytest.mark.parametrize("target", ["cpu", "cuda", "mlflow"])
def test_every_image_has_locked_versions_and_runs_as_no_root(target):
    text = stages()[target]
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert "USER 1000:1000" in lines
    assert lines.index("USER 1000:1000") > max(n for n, line in enumerate(lines) if line.startswith("RUN"))
    built_from = {"cpu": "cpu-packages", "cuda": "cuda-packages", "mlflow": "mlflow"}[target]
    assert "/build/requirements.lock" in stages()[built_from]


def test_the_base_image_is_pinned_and_no_index_is_written_down():
    text = DOCKERFILE.read_text()
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.\d+\.\d+-slim-\w+$", text, flags=re.MULTILINE)
    assert "://" not in text


def test_what_stays_out_of_git_stays_out_of_images():
    ignored = (ROOT / ".gitignore").read_text().split()
    left_out = {line.removeprefix("**/") for line in (ROOT / ".dockerignore").read_text().split()}
    assert {name.rstrip("/") for name in ignored} <= left_out


def services() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())["services"]


def compose_refusal(document: dict[str, Any]) -> str:
    try:
        PyCompose.from_json(json.dumps(document))
    except ValueError as error:
        return str(error)
    return ""


def test_compose_takes_the_file_and_would_refuse_a_misspelled_or_wrong_setting():
    document = yaml.safe_load(COMPOSE.read_text())
    assert compose_refusal(document) == ""

    def spoiled(**settings: Any) -> str:
        return compose_refusal({**document, "services": {"mlflow": {**services()["mlflow"], **settings}}})

    assert "imgae" in spoiled(imgae="mlflow")
    assert "invalid type" in spoiled(cap_drop=7)
    assert "service_well" in spoiled(depends_on={"postgres": {"condition": "service_well"}})


def test_all_that_a_service_names_is_there():
    document = yaml.safe_load(COMPOSE.read_text())
    for service in services().values():
        assert set(service.get("depends_on", ())) <= set(services())
        assert {volume.partition(":")[0] for volume in service.get("volumes", ())} <= set(document["volumes"])
        assert {each["source"] for each in service.get("configs", ())} <= set(document["configs"])
    build = services()["mlflow"]["build"]
    context = (COMPOSE.parent / build["context"]).resolve()
    assert context / build["dockerfile"] == DOCKERFILE
    assert build["target"] in stages()


def test_only_loopback_is_published_and_nothing_that_lasts_is_root():
    for name, service in services().items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        own_image = service["image"].startswith("factorized-dreamer:")  # whose user is 1000
        assert own_image or service.get("user") in ("1000:1000", "postgres") or name == "owner"
    assert services()["owner"]["network_mode"] == "none"


def test_passwords_come_from_the_environment_and_must_be_there():
    said = re.findall(r"\$\{(\w+)([^}]*)\}", COMPOSE.read_text())
    assert {name for name, _ in said} == {"POSTGRES_PASSWORD", "STORE_PASSWORD"}
    assert all(rest.startswith(":?") for _, rest in said)
    assert ".env" in (ROOT / ".gitignore").read_text().split()


def test_images_have_the_projects_version_and_ray_the_locks():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    locked = dict(
        line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line
    )
    files = [COMPOSE, DOCKERFILE, *(ROOT / "infra").rglob("*.yaml")]
    tags = {tag for file in files for tag in re.findall(r"factorized-dreamer:([\d.]+)-", file.read_text())}
    assert tags == {version}
    for name in ("cluster", "job"):
        assert f'rayVersion: "{locked["ray"]}"' in (ROOT / "infra" / "kuberay" / f"{name}.yaml").read_text()
