"""Uploads in parts to `s3://` that nobody ended: no files, but their parts cost as much as such.

A process that is killed in the middle of one leaves it. Google's end by themselves after a week.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.storage import file_system, is_remote


@dataclass(frozen=True)
class Upload:
    """What was to become the file `path`; one of that name may be there, and is another thing."""

    path: Path
    id: str


def unfinished_uploads(folder: Path) -> Iterator[Upload]:
    """Those to a folder and its folders; none but on `s3://`."""
    if not is_remote(folder) or not str(folder).startswith("s3://"):
        return
    fs, key = file_system(folder)
    bucket, _, prefix = f"{key}/".partition("/")
    request = {"Bucket": bucket, "Prefix": prefix}
    for found in _listed(fs, "list_multipart_uploads", "Uploads", ("KeyMarker", "UploadIdMarker"), request):
        yield Upload(folder / found["Key"].removeprefix(prefix), found["UploadId"])


def uploaded_bytes(upload: Upload) -> int:
    """Of the parts that are there."""
    fs, request = _request(upload)
    return sum(part["Size"] for part in _listed(fs, "list_parts", "Parts", ("PartNumberMarker",), request))


def end_upload(upload: Upload) -> None:
    """Delete the parts, if they are still there."""
    fs, request = _request(upload)
    try:
        fs.call_s3("abort_multipart_upload", **request)
    except FileNotFoundError:
        return


def _request(upload: Upload) -> tuple[Any, dict[str, Any]]:
    fs, path = file_system(upload.path)
    bucket, _, key = path.partition("/")
    return fs, {"Bucket": bucket, "Key": key, "UploadId": upload.id}


def _listed(
    fs: Any, operation: str, field: str, markers: tuple[str, ...], request: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """All entries of a listing, which comes a thousand at a time."""
    while True:
        page = fs.call_s3(operation, **request)
        yield from page.get(field, ())
        if not page.get("IsTruncated"):
            return
        request = {**request, **{marker: page[f"Next{marker}"] for marker in markers}}
