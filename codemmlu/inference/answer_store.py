"""The stored answers of a pool, and their keys: a run has millions, all of which its driver holds."""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from codemmlu.run_dir import RunDir
from codemmlu.schema import Answer, answer_from

_BYTES = 16  # of a key: 32 hex digits
_AT_ONCE = 16  # files read in parallel: an object store needs time for each, and there are thousands of files


class AnswerKeySet:
    """A set of answer keys in one sorted array: 16 bytes per key, where a set of strings takes 160."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        """Pack and sort the keys; a key that is not made of hex digits raises ValueError."""
        self._sorted = np.unique(_packed("".join(keys)))

    @classmethod
    def union(cls, parts: Iterable[npt.NDArray[np.bytes_]]) -> "AnswerKeySet":
        """Return the union of arrays of packed keys, which may be unsorted and hold duplicates."""
        union = cls()
        union._sorted = np.unique(np.concatenate([union._sorted, *parts]))
        return union

    def __contains__(self, key: str) -> bool:
        """Tell whether a key is in the set."""
        packed = _packed(key)
        at = np.searchsorted(self._sorted, packed[0])
        return at < len(self._sorted) and bool(self._sorted[at] == packed[0])

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._sorted)


def file_name(keys: Iterable[str]) -> str:
    """Return the name of the file of answers under these keys: a block that is answered twice is written once."""
    return hashlib.sha256("".join(sorted(keys)).encode()).hexdigest()[:24]


class KnownKeys(NamedTuple):
    """The keys of a pool with a durable answer, and the keys with a failed row; a key may be in both sets."""

    answered: AnswerKeySet
    failed: AnswerKeySet


def known_keys(run: RunDir, pool: str) -> KnownKeys:
    """Read the keys of all stored answers of a pool."""
    answered, failed = [], []
    with ThreadPoolExecutor(_AT_ONCE) as readers:
        for good, bad in readers.map(partial(_file_keys, run), run.files(f"answers/{pool}")):
            answered.append(good)
            failed.append(bad)
    return KnownKeys(AnswerKeySet.union(answered), AnswerKeySet.union(failed))


def _file_keys(run: RunDir, name: str) -> tuple[npt.NDArray[np.bytes_], npt.NDArray[np.bytes_]]:
    """Return the packed keys of one answer file: first the answered ones, then the failed ones."""
    table = run.read_table(name, columns=["key", "status"])
    keys = _packed("".join(map(str, table["key"].to_pylist())))
    failed = np.asarray(table["status"].to_pylist(), dtype=str) == "failed"
    return keys[~failed], keys[failed]


def _packed(keys: str) -> npt.NDArray[np.bytes_]:
    # numpy drops trailing zero bytes of an S value; all keys are equally long, so no key is taken for another.
    return np.frombuffer(bytes.fromhex(keys), dtype=f"S{_BYTES}")


def stored_answers(run: RunDir, pool: str, wanted: set[str]) -> dict[str, Answer]:
    """Return the answers of a pool that are stored under the wanted keys; see `earliest_valid_answers`."""
    return earliest_valid_answers((run.read_table(name) for name in run.files(f"answers/{pool}")), wanted)


def earliest_valid_answers(tables: Iterable[pa.Table], wanted: set[str]) -> dict[str, Answer]:
    """Return one answer per wanted key: of several under one key, an answered one wins, then the earliest.

    A key has two answers when a failed question was asked again, or when a kill came between writing a block and
    reporting the block.

    Args:
        tables: Tables of answers, for example one per file.
        wanted: The keys; other rows are skipped.

    Returns:
        The answers by key, without the keys that have none.
    """
    answers: dict[str, Answer] = {}
    keys = pa.array(sorted(wanted), pa.string())
    for table in tables:
        for row in table.filter(pc.is_in(table["key"], value_set=keys)).to_pylist():
            answer = answer_from(row)
            rival = answers.get(answer.key)
            if rival is None or _precedence(answer) < _precedence(rival):
                answers[answer.key] = answer
    return answers


def _precedence(answer: Answer) -> tuple[bool, float]:
    return answer.status == "failed", answer.started
