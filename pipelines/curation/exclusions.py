"""Sources that were taken down: never opened again, and gone from clips and shards.

The list stays with the run directory, so that a later run without the option does not bring them back. To
lift an exclusion, take its line out of RUN/data/excluded_sources.txt.
"""

from pathlib import Path

from pipelines.curation.verdicts import CurationError
from pipelines.files import write_text
from pipelines.layout import RunLayout
from pipelines.recipe import Recipe


def excluded_sources(layout: RunLayout) -> frozenset[str]:
    """Ids of the sources that a run directory leaves out; some may not be in its table, or not yet."""
    path = _list_path(layout)
    return _read(path) if path.is_file() else frozenset()


def remember_exclusions(recipe: Recipe, layout: RunLayout) -> Recipe:
    """Add the recipe's file of source ids to the run directory's list; the recipe without the file.

    Raises CurationError when the file is not there.
    """
    file = recipe.data.exclude_sources
    if file is None:
        return recipe
    if not Path(file).is_file():
        raise CurationError(f"data.exclude_sources: no file {file}; give one with a source id on each line")
    sources = excluded_sources(layout) | _read(Path(file))
    write_text(_list_path(layout), "".join(f"{source}\n" for source in sorted(sources)))
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"exclude_sources": None})})


def _list_path(layout: RunLayout) -> Path:
    return layout.data / "excluded_sources.txt"


def _read(path: Path) -> frozenset[str]:
    lines = (line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    return frozenset(line for line in lines if line)
