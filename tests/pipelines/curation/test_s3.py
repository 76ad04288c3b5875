"""Sources on object storage: a server that speaks S3, on this machine."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines.curation import remote
from pipelines.curation.decode import DecoderError
from pipelines.curation.remote import local_file
from pipelines.curation.run import curate
from pipelines.curation.sources import divide_sources, unit_sources
from pipelines.layout import RunLayout
from pipelines.recipe import DataSettings
from pipelines.storage import storage_path
from tests.curation_input import curation_recipe, source_row, write_rows
from tests.object_storage import FaultyStorage, object_storage


@pytest.fixture(scope="module")
def storage() -> Iterator[FaultyStorage]:
    import ray

    with object_storage("videos") as storage, pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "BACK_OFF_SECONDS", 0.01)
        ray.shutdown()  # workers of one that is there would not see the variables
        yield storage


@pytest.fixture
def bucket(storage: FaultyStorage) -> str:
    """Address of a bucket."""
    return "s3://videos"


def upload(file: Path, address: str) -> str:
    import s3fs

    s3fs.S3FileSystem().put_file(str(file), address)
    return address


def test_an_object_is_there_for_as_long_as_it_is_read(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"film" * 1000)
    address = upload(tmp_path / "v.mp4", f"{bucket}/shelf/v.mp4")
    with local_file(address) as path:
        assert Path(path).read_bytes() == b"film" * 1000
    assert not Path(path).exists()


@pytest.mark.parametrize("address", ["s3://videos/none.mp4", "s3://nobody/v.mp4"])
def test_what_is_not_there_is_not_found(address: str, bucket: str) -> None:
    with pytest.raises(DecoderError, match="not_found"), local_file(address):
        pass


def test_tables_and_runs_in_a_bucket_are_curated_like_those_in_folders(
    bucket: str,
    storage: FaultyStorage,
    tmp_path: Path,
    tiny_models: dict[str, str],
    make_video: Callable[..., Path],
    make_scene: Callable[..., np.ndarray],
) -> None:
    rows = []
    for number in range(3):
        file = make_video(tmp_path / f"{number}.mp4", make_scene(number, 20))
        upload(file, f"{bucket}/films/{file.name}")
        rows.append(source_row(str(number), contentUrl=file.name))
    rows.append(source_row("gone", contentUrl="gone.mp4"))
    rows.append(source_row("other", contentUrl="s3://other-bucket/v.mp4"))
    table = write_rows(tmp_path / "t.csv", rows)
    upload(table, f"{bucket}/films/t.csv")
    recipe = curation_recipe(tmp_path / "run", table, tiny_models, units=2)
    here = curate(recipe)
    place, films = f"{bucket}/run", f"{bucket}/films/t.csv"
    data = recipe.data.model_copy(update={"table": films})
    storage.share = 0.05
    there = curate(recipe.model_copy(update={"run_directory": place, "data": data}))
    storage.share = 0.0
    assert sum(storage.planted.values()) > 0
    assert (there["kept"], there["failed"]) == (here["kept"], here["failed"]) == (3, 2)
    assert there["reasons"] == here["reasons"] == {"not_found": 1, "outside_root": 1}
    assert bytes_of_shards(storage_path(place)) == bytes_of_shards(tmp_path / "run")
    assert not [path for path in storage_path(place).rglob("*") if "partial" in path.name]


def test_a_division_in_a_bucket_is_uploaded_once_and_completed_after_a_kill(
    bucket: str, storage: FaultyStorage, tmp_path: Path
) -> None:
    table = write_rows(tmp_path / "t.csv", [source_row(str(number)) for number in range(100)])
    data, layout = DataSettings(table=str(table)), RunLayout(storage_path(f"{bucket}/divided"))
    divide_sources(data, layout, 32)
    whole = [unit_sources(layout, unit) for unit in range(32)]
    before = storage.requests
    assert divide_sources(data, layout, 32) == 100
    assert storage.requests - before < 8
    for name in ("stamp.json", "00003.parquet"):  # as a kill leaves it: the stamp comes last
        (layout.data / "sources" / name).unlink()
    divide_sources(data, layout, 32)
    assert [unit_sources(layout, unit) for unit in range(32)] == whole


def bytes_of_shards(run: Path) -> dict[str, bytes]:
    files = (path for path in (run / "data" / "shards").rglob("*") if path.is_file())
    return {str(path.relative_to(run)): path.read_bytes() for path in files}
