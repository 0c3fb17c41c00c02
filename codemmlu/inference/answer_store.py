"""Keys: which asks of which questions have an answer, in a few bytes each. A run has millions, and its driver all."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from codemmlu.run_dir import RunDir
from codemmlu.schema import Answer, answer_from

_BYTES = 16  # of a key: 32 hex digits
_AT_ONCE = 16  # files that are read at a time: an object store takes its time for each, and there are thousands


class AnswerKeySet:
    """A set of keys, held as one sorted array: 16 bytes each, where a set of strings takes 160."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        """Raises ValueError when a key is not made of hex digits."""
        self._sorted = np.unique(_packed("".join(keys)))

    @classmethod
    def union(cls, parts: Iterable[npt.NDArray[np.bytes_]]) -> "AnswerKeySet":
        """Of packed keys in any order, repeated ones among them."""
        made = cls()
        made._sorted = np.unique(np.concatenate([made._sorted, *parts]))
        return made

    def __contains__(self, key: str) -> bool:
        packed = _packed(key)
        at = np.searchsorted(self._sorted, packed[0])
        return at < len(self._sorted) and bool(self._sorted[at] == packed[0])

    def __len__(self) -> int:
        return len(self._sorted)


def known_keys(run: RunDir, pool: str) -> tuple[AnswerKeySet, AnswerKeySet]:
    """The keys with a durable answer, and those with a failed one; a key may be in both."""
    answered, failed = [], []
    with ThreadPoolExecutor(_AT_ONCE) as readers:
        for good, bad in readers.map(partial(_file, run), run.files(f"answers/{pool}")):
            answered.append(good)
            failed.append(bad)
    return AnswerKeySet.union(answered), AnswerKeySet.union(failed)


def _file(run: RunDir, name: str) -> tuple[npt.NDArray[np.bytes_], npt.NDArray[np.bytes_]]:
    """A file's keys, packed: of what is answered, and of what failed."""
    table = run.read_table(name, columns=["key", "status"])
    keys = _packed("".join(map(str, table["key"].to_pylist())))
    failed = np.asarray(table["status"].to_pylist(), dtype=str) == "failed"
    return keys[~failed], keys[failed]


def _packed(keys: str) -> npt.NDArray[np.bytes_]:
    # numpy takes zeros at the end of an S for none at all; as all keys are equally long, none is taken for another.
    return np.frombuffer(bytes.fromhex(keys), dtype=f"S{_BYTES}")


def stored_answers(run: RunDir, pool: str, wanted: set[str]) -> dict[str, Answer]:
    """The answers of a pool under the wanted keys; see `first_standing`."""
    return latest_valid_answers((run.read_table(name) for name in run.files(f"answers/{pool}")), wanted)


def latest_valid_answers(tables: Iterable[pa.Table], wanted: set[str]) -> dict[str, Answer]:
    """Answers by key, of those wanted. Of several under one key an answered one counts, then the earliest.

    Two can be there when a failed ask was asked again, or when a kill came between writing a block and saying so.
    """
    found: dict[str, Answer] = {}
    keys = pa.array(sorted(wanted), pa.string())
    for table in tables:
        for row in table.filter(pc.is_in(table["key"], value_set=keys)).to_pylist():
            answer = answer_from(row)
            rival = found.get(answer.key)
            if rival is None or _standing(answer) < _standing(rival):
                found[answer.key] = answer
    return found


def _standing(answer: Answer) -> tuple[bool, float]:
    return answer.status == "failed", answer.started
