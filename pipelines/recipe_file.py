"""Recipe files: found by path or name, parsed with overrides, refused with the nearest known key."""

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipelines.recipe import Recipe, RecipeError, Settings
from pipelines.storage import storage_path

RECIPES = Path(__file__).parent.parent / "jobs" / "recipes"
SOURCES = RECIPES / "sources"


def find_recipe(name: str) -> Path:
    """A recipe file by path, or by the name of one that ships with the package."""
    for path in (storage_path(name), RECIPES / f"{name}.yaml"):
        if path.is_file():
            return path
    shipped = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    raise RecipeError(f"no recipe {name!r}: give a YAML file, or one of {', '.join(shipped)}")


def load_recipe(name: str, overrides: tuple[str, ...] = ()) -> Recipe:
    """Parse a recipe file with `section.key=value` overrides.

    `extends: RECIPE` in a file lays its settings over those of another recipe, section by section; a path is
    relative to the file. `source=NAME` brings the settings of a kind of source: its columns, and thresholds
    that its watermark asks for. Named in the file, they are defaults, over which the file has its say; as an
    override, they overrule the file. All other overrides go on top. In their keys a
    number names an entry of a list, and `*` every entry.

    Raises RecipeError with every fault at once: unknown keys (and the nearest known one), wrong types,
    values out of range.
    """
    path = find_recipe(name)
    tree = _tree(path)
    for override in sorted(overrides, key=_names_no_source):
        _set(tree, override)
        if source := tree.pop("source", None):
            tree = _laid_over(tree, _source_settings(source))
    return _validated(tree, str(path))


def with_overrides(recipe: Recipe, overrides: tuple[str, ...]) -> Recipe:
    """The recipe with other settings, written as on the command line. Raises RecipeError as `load_recipe`."""
    tree = recipe.model_dump(mode="json")
    for override in overrides:
        _set(tree, override)
    return _validated(tree, "with " + ", ".join(overrides))


def _validated(tree: dict[str, Any], where: str) -> Recipe:
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(f"{where}:\n" + "\n".join(map(_fault, error.errors()))) from error


def _tree(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Settings of a file over those of the recipe that it extends. `above`: files that extend this one."""
    if path.resolve() in above:
        raise RecipeError(f"{path} extends itself, by way of {', '.join(map(str, above))}")
    tree = _read(path)
    base = tree.pop("extends", None)
    if source := tree.pop("source", None):
        tree = _laid_over(_source_settings(source), tree)
    if base is None:
        return tree
    beside = path.parent / str(base)
    found = beside if beside.is_file() else find_recipe(str(base))
    return _laid_over(_tree(found, (*above, path.resolve())), tree)


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise RecipeError(f"{path} must hold a mapping of settings")
    return tree


def _source_settings(name: Any) -> dict[str, Any]:
    path = SOURCES / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(path.stem for path in SOURCES.glob("*.yaml")))
        raise RecipeError(f"source={name}: no such source; there are {known}")
    return _read(path)


def _names_no_source(override: str) -> bool:
    return override.partition("=")[0] != "source"


def _laid_over(tree: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """`tree` with the values of `settings` in it, section by section."""
    merged = dict(tree)
    for key, value in settings.items():
        below = merged.get(key)
        merged[key] = (
            _laid_over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
        )
    return merged


def _set(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not (equals and key):
        raise RecipeError(f"an override is section.key=value, not {override!r}")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"override {override!r}: {text!r} is no YAML value") from error
    *parents, leaf = key.split(".")
    nodes: list[Any] = [tree]
    for parent in parents:
        nodes = [_below(node, place) for node in nodes for place in _places(node, parent, override)]
    for node in nodes:
        for place in _places(node, leaf, override):
            node[place] = value


def _below(node: Any, place: str | int) -> Any:
    """What lies under a place; a section that is not there yet is made."""
    if isinstance(node, dict) and node.get(place) is None:
        node[place] = {}
    return node[place]


def _places(node: Any, part: str, override: str) -> list[str | int]:
    """The places that a part of an override's key names: `*` is every entry of a list."""
    if part == "*" and isinstance(node, list):
        return list(range(len(node)))
    return [_place(node, part, override)]


def _place(node: Any, part: str, override: str) -> str | int:
    """The key of a section, or the number of a list's entry, that a part of an override's key names."""
    if isinstance(node, dict):
        return part
    if not isinstance(node, list):
        raise RecipeError(f"override {override!r}: there is no section around {part!r}")
    if not (part.isdigit() and int(part) < len(node)):
        raise RecipeError(
            f"override {override!r}: {part!r} is none of the list's entries 0 to {len(node) - 1}"
        )
    return int(part)


def _fault(error: Any) -> str:
    location = ".".join(map(str, error["loc"])) or "recipe"
    if error["type"] != "extra_forbidden":
        return f"  {location}: {error['msg']}"
    known = _keys_beside(error["loc"])
    nearest = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known keys: {', '.join(known)}"
    return f"  {location}: unknown key; {hint}"


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields of the model that an unknown key was given to."""
    model: Any = Recipe
    for part in location[:-1]:
        fields = getattr(model, "model_fields", {})
        if part in fields:
            model = _model_in(fields[part].annotation)
    return list(getattr(model, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    """The Settings class inside an annotation such as `tuple[Stage, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if (found := _model_in(inner)) is not None:
            return found
    return None
