"""The recipes that come with the package, which a command finds by name: `codemmlu run demo`."""

from functools import cache
from pathlib import Path

from codemmlu.errors import UserError

_PACKAGE = Path(__file__).parents[1]
# In a wheel the recipes lie in the package, in a checkout beside it.
_FOLDERS = (_PACKAGE / "recipes", _PACKAGE.parent / "recipes")


@cache
def packaged() -> dict[str, Path]:
    """Return the recipes of the package, by name."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem)} if folder else {}


def find(recipe: str) -> str:
    """Return the path of a recipe.

    Args:
        recipe: The path of a YAML file, or the name of a recipe of the package. A file goes before a name.

    Returns:
        The path; one with a folder or an ending as it is given, whether or not there is such a file.

    Raises:
        UserError: The text can only be a name, and no recipe has it.
    """
    if "/" in recipe or recipe.endswith((".yaml", ".yml")) or _is_file(recipe):
        return recipe
    if recipe not in packaged():
        raise UserError(f"there is no recipe {recipe!r}; give the path of a YAML file, or {', '.join(packaged())}")
    return str(packaged()[recipe])


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # The name is too long for a file, or holds a null character.
        return False
