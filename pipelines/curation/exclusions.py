"""Sources that were taken down: never opened again, and gone from clips and shards.

The list stays with the run directory, so that a later run without the option does not bring them back.
"""

from pathlib import Path

from pipelines.curation.verdicts import CurationError
from pipelines.layout import RunLayout


def excluded_sources(layout: RunLayout) -> frozenset[str]:
    """Ids of the sources that this run directory leaves out."""
    path = _list_path(layout)
    return _read(path) if path.is_file() else frozenset()


def exclude_sources(layout: RunLayout, file: str | None) -> frozenset[str]:
    """Add the ids of a file, one a line, to the run directory's list; returns the whole list.

    Ids that are not in the table are kept too: they may come with it later.
    Raises CurationError when the file is not there.
    """
    listed = excluded_sources(layout)
    if file is None:
        return listed
    if not Path(file).is_file():
        raise CurationError(f"data.exclude_sources: no file {file}; give one with a source id on each line")
    union = listed | _read(Path(file))
    if union != listed:
        path = _list_path(layout)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(f"{source}\n" for source in sorted(union)), encoding="utf-8")
        temporary.rename(path)
    return union


def _list_path(layout: RunLayout) -> Path:
    return layout.data / "excluded_sources.txt"


def _read(path: Path) -> frozenset[str]:
    lines = (line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    return frozenset(line for line in lines if line)
