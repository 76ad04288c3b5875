"""Sources on object storage: a server that speaks S3, on this machine."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines.curation import remote
from pipelines.curation.decode import DecoderError
from pipelines.curation.remote import local_file
from pipelines.curation.run import curate
from tests.curation_input import curation_recipe, source_row, write_rows


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """Address of an empty bucket; the variables are what a user sets for any S3 of their own."""
    import ray
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setattr(remote, "BACK_OFF_SECONDS", 0.01)
        ray.shutdown()  # workers of one that is there would not see the variables
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("videos")
        yield "s3://videos"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


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


def test_a_table_of_addresses_is_curated_like_one_of_files(
    bucket: str,
    tmp_path: Path,
    tiny_models: dict[str, str],
    make_video: Callable[..., Path],
    make_scene: Callable[..., np.ndarray],
) -> None:
    rows = []
    for number in range(3):
        file = make_video(tmp_path / f"{number}.mp4", make_scene(number, 20))
        rows.append(source_row(str(number), contentUrl=upload(file, f"{bucket}/{file.name}")))
    rows.append(source_row("gone", contentUrl=f"{bucket}/gone.mp4"))
    rows.append(source_row("other", contentUrl="s3://other-bucket/v.mp4"))
    table = write_rows(tmp_path / "t.csv", rows)
    allowed = {"more_roots": [bucket]}
    summary = curate(curation_recipe(tmp_path / "run", table, tiny_models, data=allowed, units=2))
    assert (summary["kept"], summary["failed"]) == (3, 2)
    assert summary["reasons"] == {"not_found": 1, "outside_root": 1}
