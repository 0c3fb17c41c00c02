"""YAML text from anyone: bounded in size, in depth and in what its aliases unfold to."""

import os
import stat
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from codemmlu.errors import UserError

_LARGEST = 128 * 1024  # bytes; a recipe has about two thousand
_DEEPEST = 50
_TOO_DEEP = f"it nests deeper than {_DEEPEST} levels"
_MOST_NODES = 20_000  # once every alias is unfolded
_MERGE = "tag:yaml.org,2002:merge"  # The tag of `<<: *other`, which is flattened later.


class _Loader(yaml.SafeLoader):
    """A safe YAML loader that refuses a repeated key instead of keeping the last value."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._seen: set[int] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse a repeated key, then merge other mappings in as yaml.SafeLoader does."""
        # A merged mapping may repeat a key without a mistake, so the mapping's own keys are checked before the merge.
        if id(node) not in self._seen:
            self._seen.add(id(node))
            keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != _MERGE]
            for key, times in Counter(key for key in keys if isinstance(key, str)).items():
                if times > 1:
                    raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands there twice", node.start_mark)
        super().flatten_mapping(node)

    def fetch_flow_collection_start(self, TokenClass: type[yaml.Token]) -> None:  # noqa: N803
        """Refuse brackets that nest too deeply: the scanner looks at all open ones for each further character."""
        if self.flow_level > _DEEPEST:
            raise ValueError(_TOO_DEEP)
        super().fetch_flow_collection_start(TokenClass)

    def add_indent(self, column: int) -> bool:
        """Refuse indented lines that nest too deeply."""
        added: bool = super().add_indent(column)
        if len(self.indents) > _DEEPEST + 1:
            raise ValueError(_TOO_DEEP)
        return added


def read_text(path: str) -> str:
    """Return the text of a small file.

    Args:
        path: The file.

    Returns:
        Its text.

    Raises:
        UserError: It is no file (a pipe, a device), or too large.
    """
    status = os.stat(path)
    if stat.S_ISFIFO(status.st_mode) or stat.S_ISCHR(status.st_mode) or stat.S_ISSOCK(status.st_mode):
        raise UserError(f"{path}: is no file but a pipe or a device, which may have no end")
    if status.st_size > _LARGEST:
        raise UserError(f"{path}: has {status.st_size:,} bytes; YAML of up to {_LARGEST:,} is read")
    return Path(path).read_text(encoding="utf-8")


def parse(text: str) -> Any:
    """Return the value of a YAML text.

    Args:
        text: The text.

    Returns:
        The value, of plain types.

    Raises:
        ValueError: The text nests too deeply, or its aliases unfold to too much; a yaml.YAMLError where it is no YAML.
    """
    if len(text) > _LARGEST:
        raise ValueError(f"it has {len(text):,} characters; up to {_LARGEST:,} are read")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _unfolded(node, {}, 0) > _MOST_NODES:
            raise ValueError(f"it holds more than {_MOST_NODES:,} values, counting all that its aliases unfold to")
        return loader.construct_document(node)
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    finally:
        loader.dispose()


def _unfolded(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """Return how many values a node holds once its aliases are unfolded; a ValueError where it nests too deeply."""
    if depth > _DEEPEST:  # An alias of something that holds the alias nests without end.
        raise ValueError(_TOO_DEEP)
    if id(node) not in known:
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            inner = node.value
        known[id(node)] = 1 + sum(_unfolded(part, known, depth + 1) for part in inner)
    return known[id(node)]
