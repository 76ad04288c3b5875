"""What all sections of a recipe are made of."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    model_serializer,
    model_validator,
)

from pipelines.secrets import holds_secret, without_secrets
from pipelines.storage import SCHEMES


def _place(text: str) -> str:
    scheme, separator, _ = text.partition("://")
    if separator and scheme not in SCHEMES:
        shown = without_secrets(text)
        raise ValueError(f"{shown} is no place: give a folder, or an address in a bucket (s3://, gs://)")
    if separator and set(text) & set("*?["):
        raise ValueError(f"{without_secrets(text)}: in a bucket, names with *, ? or [ are taken for patterns")
    return text


Place = Annotated[str, AfterValidator(_place)]
"""A file or folder of a file system, or an address on object storage."""
Fraction = Annotated[float, Field(ge=0, le=1)]
FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class RecipeError(ValueError):
    """A recipe that cannot be run; the message names every fault and its mend."""


def _texts(value: Any) -> Iterator[str]:
    """All that is text in a setting, but for settings within, which look for themselves."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts([*value.keys(), *value.values()])
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from _texts(each)


class Settings(BaseModel):
    # Defaults too: 8 for a float would be written as 8, and 8.0 once it was read back from a file.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)

    @model_validator(mode="after")
    def _no_secrets(self) -> Self:
        """Recipes are kept with runs, shown and passed on."""
        for name, value in self:
            if any(map(holds_secret, _texts(value))):
                raise ValueError(
                    f"{name}: recipes are kept and shown, so they hold no password, token or signature. For "
                    "buckets they are in the environment (AWS_ACCESS_KEY_ID and the like); in tracking.uri "
                    "write ${NAME} in its place and export NAME"
                )
        return self


class Bucket(Settings):
    """(frames, height, width) that a clip is resized to; written `8x64x64`."""

    frames: PositiveInt
    height: PositiveInt
    width: PositiveInt

    def __str__(self) -> str:
        return f"{self.frames}x{self.height}x{self.width}"

    @model_serializer
    def _as_written(self) -> str:
        return str(self)


def parse_bucket(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", value)
    if match is None:
        raise ValueError(f"a bucket is FRAMESxHEIGHTxWIDTH, such as 16x320x512, not {value!r}")
    return dict(zip(("frames", "height", "width"), map(int, match.groups()), strict=True))


BucketName = Annotated[Bucket, BeforeValidator(parse_bucket)]


def refuse_doubles(what: str, names: list[str]) -> None:
    """Raise ValueError when two of `names` are the same."""
    if len(set(names)) != len(names):
        raise ValueError(f"names of {what} must differ: {', '.join(names)}")
