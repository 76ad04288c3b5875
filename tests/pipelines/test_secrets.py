"""Secrets of addresses: never in a recipe, never in what is shown."""

import json
from pathlib import Path

import pytest

from pipelines.preflight.place import tracking_faults
from pipelines.recipe import RecipeError
from pipelines.recipe_file import load_recipe
from pipelines.secrets import holds_secret, without_secrets
from pipelines.tracking import open_experiment, tracking_uri


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://a.org/v.mp4", "https://a.org/v.mp4"),
        ("https://me:pass@a.org/v.mp4", "https://...@a.org/v.mp4"),
        ("404 of 'https://a.org/v.mp4?X-Signature=pass&b=1'", "404 of 'https://a.org/v.mp4?...'"),
        ('{"uri": "s3://a/v.mp4?versionId=pass", "b": 1}', '{"uri": "s3://a/v.mp4?...", "b": 1}'),
        ("of postgresql://me:pa/ss@db/x, or", "of postgresql://...@db/x, or"),
        ("'redis://:p@ss@host:6379/0'", "'redis://...@host:6379/0'"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("what? a path /v.mp4 and me@a.org", "what? a path /v.mp4 and me@a.org"),
    ],
)
def test_users_passwords_and_queries_are_struck_out(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


@pytest.mark.parametrize(
    ("setting", "address"),
    [
        ("tracking.uri", "http://me:planted@host/x"),
        ("data.table", "s3://me:planted@host/x"),
        ("evaluate.watermark", "s3://me:planted@host/x"),
        ("tracking.uri", "https://planted@host/"),
        ("tracking.uri", "http://host:5000/?token=planted"),
        ("tracking.uri", "postgresql://mlflow:planted/ss@host/db"),
        ("tracking.uri", "postgresql://${NAME}:planted@host/db"),
        ("data.more_roots", '["s3://host/x", "s3://me:planted@host/x"]'),
        ("models.text_to_image", "https://host/x?a=1&X-Amz-Signature=planted"),
    ],
)
def test_a_recipe_with_a_password_is_refused_without_a_word_of_it(setting: str, address: str) -> None:
    with pytest.raises(RecipeError, match=r"hold no password, token or signature") as caught:
        load_recipe("demo", (f"{setting}={address}",))
    assert "planted" not in str(caught.value) + str(caught.value.__cause__)


def test_an_address_that_is_no_place_is_shown_without_its_password() -> None:
    with pytest.raises(RecipeError, match=r"http://\.\.\.@host/x is no place") as caught:
        load_recipe("demo", ("data.table=http://me:planted@host/x",))
    assert "planted" not in str(caught.value) + str(caught.value.__cause__)


def test_a_variable_stands_for_a_secret_and_only_its_name_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = "sqlite:///${PLANTED_FOLDER}/mlflow.db"
    recipe = load_recipe("demo", (f"tracking.uri={uri}", f"run_directory={tmp_path / 'run'}"))
    (fault,) = tracking_faults(recipe, ("train",))
    assert fault.startswith("tracking.uri: PLANTED_FOLDER is not set")
    monkeypatch.setenv("PLANTED_FOLDER", str(tmp_path / "planted"))
    assert list(tracking_faults(recipe, ("train",))) == []
    open_experiment(recipe)
    assert (tmp_path / "planted" / "mlflow.db").is_file()
    assert tracking_uri(recipe) == uri
    assert "planted/" not in json.dumps(recipe.model_dump(mode="json"))


def test_a_secret_is_told_from_the_name_of_a_variable_and_from_a_port() -> None:
    secret = (
        "postgresql://mlflow:pass@host/db",
        "postgresql://${USER}:pass@host/db",
        "redis://:pass@host",
        "redis://:12345@host",
        "https://token@host/x",
        "https://host/x?b=1&sig=abc",
        "https://host/x?X-Amz-Security-Token=abc",
        "https://host/x#access_token=abc",
        "https://host/x?token=${TOKEN}abc",
        "postgresql://me:${A}pass@host/db",
    )
    harmless = (
        "http://host:5000/a@b",
        "postgresql://mlflow:${DB}@host/db?application_name=a@b",
        "postgresql://mlflow@host/db?sslmode=require",
        "https://host/x?versionId=1&author=me&keyframes=3&tokenizer=t5&sigma=2",
        "http://[::1]:5000/a@b",
        "https://host/x?token=${TOKEN}",
        "a:b@c",
    )
    assert [text for text in secret if not holds_secret(text)] == []
    assert [text for text in harmless if holds_secret(text)] == []
