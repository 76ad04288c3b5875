"""Paths on object storage that tell what is missing from what cannot be read.

fsspec takes every error for `there is no such file`: a run would do its work again because a server was busy.
"""

from typing import Any

from upath.implementations.cloud import GCSPath, S3Path
from upath.registry import register_implementation


class _ObjectPath:
    """What both have in common."""

    fs: Any
    path: str

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._kind() == "file"

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._kind() == "directory"

    def _kind(self) -> str | None:
        try:
            return str(self.fs.info(self.path)["type"])
        except FileNotFoundError:
            return None


class S3ObjectPath(_ObjectPath, S3Path):
    """`s3://BUCKET/KEY`."""


class GCSObjectPath(_ObjectPath, GCSPath):
    """`gs://BUCKET/KEY`."""


register_implementation("s3", S3ObjectPath, clobber=True)
register_implementation("gs", GCSObjectPath, clobber=True)
