"""Uploads in parts to `s3://` that nobody ended: no files, but their parts cost as much as such.

A process that is killed in the middle of one leaves it. Google's end by themselves after a week.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipelines.storage import file_system, is_remote

log = logging.getLogger(__name__)
OLD = timedelta(days=1)  # no file that we write takes so long, so nobody is at it any more


@dataclass(frozen=True)
class Upload:
    """What was to become the file `path`; one of that name may be there, and is another thing."""

    path: Path
    id: str


def unfinished_uploads(folder: Path) -> Iterator[Upload]:
    """Those to a folder and its folders that began more than a day ago; none but on `s3://`.

    Where they cannot be listed, for want of a right or because the store cannot do it, a warning says so.
    """
    if not is_remote(folder) or not str(folder).startswith("s3://"):
        return
    fs, key = file_system(folder)
    bucket, _, prefix = f"{key}/".partition("/")
    request = {"Bucket": bucket, "Prefix": prefix}
    markers = ("KeyMarker", "UploadIdMarker")
    try:
        for found in _listed(fs, "list_multipart_uploads", "Uploads", markers, request):
            if datetime.now(UTC) - found["Initiated"] > OLD:
                yield Upload(folder / found["Key"].removeprefix(prefix), found["UploadId"])
    except OSError as error:
        log.warning("uploads that were not ended are not looked for in %s: %s", folder, error)


def uploaded_bytes(upload: Upload) -> int:
    """Of the parts that are there; 0 when it was ended meanwhile, or they cannot be listed."""
    fs, request = _request(upload)
    try:
        return sum(
            part["Size"] for part in _listed(fs, "list_parts", "Parts", ("PartNumberMarker",), request)
        )
    except OSError:
        return 0


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
