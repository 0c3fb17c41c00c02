"""What Ray's C++ core writes on stderr between our lines: a false alarm goes, long alarms are cut."""

import os

from codemmlu.cluster.tasks import without_actor_warning

ALARM = (
    b"(raylet) file_system_monitor.cc:116: /tmp/ray is over 95% full, available space: 0.1 GB; " + 800 * b"x" + b"\n"
)
CORE = b"[2026-11-28 07:04:13,123 E 77 88] core_worker.cc:1: " + 800 * b"y" + b"\n"
OURS = b"error: " + 800 * b"z" + b"\n"


def test_alarms_of_the_core_are_cut_and_ours_are_not() -> None:
    kept, (source, sink) = os.dup(2), os.pipe()
    os.dup2(sink, 2)
    os.close(sink)
    try:
        with without_actor_warning():
            for line in (ALARM, CORE, b"x constructor arguments in the object store\n", OURS):
                os.write(2, line)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    with os.fdopen(source, "rb") as stream:
        lines = stream.read().splitlines(keepends=True)
    assert [len(line) < 200 for line in lines] == [True, True, False]
    assert lines[0].startswith(b"(raylet) file_system_monitor.cc:116: /tmp/ray is over 95% full")
    assert lines[2] == OURS
