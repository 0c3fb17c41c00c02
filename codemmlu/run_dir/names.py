"""The names of all files that a run writes: nothing else in a run directory is ever replaced or deleted."""

import re

# The file that marks a directory as one of this project.
MARK = ".codemmlu"
# Names of models, voters and adapters, see recipe/base.py.
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
# An index directory: below a run directory, or a directory of its own.
_INDEX = (
    r"manifest\.json",
    r"\d{5,}/index\.faiss",
    r"\d{5,}/examples\.parquet",
    r"building/(vectors/)?\d{6,}\.parquet",
)
# What save_pretrained writes of a model and its tokenizer.
_MODEL = (
    r"(config|generation_config|learnt|model\.safetensors\.index)\.json",
    r"model(-\d+-of-\d+)?\.safetensors",
    r"(tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|chat_template)\.json",
    r"merges\.txt|vocab\.txt|tokenizer\.model|chat_template\.jinja",
)
_HIDDEN = (
    re.escape(MARK),
    r"\.issue|\.lock|\.shared|\.figures\.json",
    r"\.probe(\.[0-9a-f]{32})?",
    r"\..+\.[0-9a-f]{32}\.part",
)
_WRITTEN = (
    *_HIDDEN,
    r"recipe\.yaml|report\.json|report\.html|submission\.csv|pilot\.json",
    r"(rejected|voters|verdicts)\.parquet",
    r"(voters|verdicts)\.parquet/\d{6,}\.parquet",
    r"questions(\.new)?/\d{6,}\.parquet",
    # An attempt's own folder, and the blocks of its stages; see inference/driver.py.
    rf"pending/{_NAME}/([0-9a-f]{{8}}/.+|(.+/)?\d+\.parquet)",
    rf"answers/{_NAME}/[^/.]+\.parquet",
    r"fitted/([0-9a-f]{32}|vote)\.json",
    r"observations/[0-9a-f]{32}\.json",
    rf"adapters/{_NAME}/(adapter_config\.json|adapter_model\.safetensors|learnt\.json|manifest\.json)",
    rf"merged/{_NAME}/({'|'.join(_MODEL)})",
    r"training/[0-9a-f]{16}/.+|fault\.txt|lessons\.parquet",
    rf"(index/)?({'|'.join(_INDEX)})",
)
_TEMPORARY = re.compile(rf"(.+/)?({_HIDDEN[-1]})")
_HIDDEN_NAME = re.compile("|".join(_HIDDEN))
_WRITTEN_NAME = re.compile("|".join(_WRITTEN))
# Folders that every run writes into, below which no input may lie.
_FOLDERS = (
    "questions",
    "questions.new",
    "pending",
    "answers",
    "fitted",
    "training",
    "voters.parquet",
    "verdicts.parquet",
)


def is_written(name: str) -> bool:
    """Return whether a run writes a file of this name, which is relative to the run or index directory."""
    return _WRITTEN_NAME.fullmatch(name) is not None or is_temporary(name)


def is_temporary(name: str) -> bool:
    """Return whether a name is that of a file that is still being written, or that a killed job left."""
    return _TEMPORARY.fullmatch(name) is not None


def is_hidden(name: str) -> bool:
    """Return whether a name is one of the hidden files at the top of a run directory."""
    return _HIDDEN_NAME.fullmatch(name) is not None


def writes_below(name: str, adapter: str | None) -> bool:
    """Return whether a run replaces or deletes what lies at a name.

    Args:
        name: The name of a file or a folder, relative to the run directory.
        adapter: The name of the adapter that the run trains, or None.

    Returns:
        True also for a name that the run has not written yet.
    """
    top, _, rest = name.partition("/")
    if top in ("adapters", "merged"):
        return adapter is not None and rest.partition("/")[0] in ("", adapter)
    return top in _FOLDERS or is_written(name)
