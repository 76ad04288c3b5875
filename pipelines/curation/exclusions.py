"""Sources that were taken down: never opened again, and gone from clips and shards.

The list stays with the run directory, so that a later run without the option does not bring them back.
"""

from pathlib import Path

from pipelines.curation.verdicts import CurationError
from pipelines.layout import RunLayout


def listed_exclusions(layout: RunLayout, file: str | None) -> frozenset[str]:
    """Ids of the sources to leave out: those that the run directory remembers and those of a file.

    Ids that are not in the table count too: they may come with it later.
    Raises CurationError when the file is not there.
    """
    if file is not None and not Path(file).is_file():
        raise CurationError(f"data.exclude_sources: no file {file}; give one with a source id on each line")
    remembered = _list_path(layout)
    files = [Path(file)] if file is not None else []
    files += [remembered] if remembered.is_file() else []
    return frozenset().union(*map(_read, files))


def remember_exclusions(layout: RunLayout, sources: frozenset[str]) -> None:
    """Keep the list in the run directory; to lift an exclusion, take its line out there."""
    path = _list_path(layout)
    if sources and not (path.is_file() and _read(path) == sources):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(f"{source}\n" for source in sorted(sources)), encoding="utf-8")
        temporary.rename(path)


def _list_path(layout: RunLayout) -> Path:
    return layout.data / "excluded_sources.txt"


def _read(path: Path) -> frozenset[str]:
    lines = (line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    return frozenset(line for line in lines if line)
