"""Seccomp filters as BPF programs, for the two architectures that are known here.

`surroundings` refuses system calls that a program in namespaces has no use for; `computation` allows only those that
computing and printing need. See seccomp(2) and linux/filter.h.
"""

import errno
import platform
import struct

_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_LOAD, _JUMP_EQUAL, _JUMP_SET, _JUMP_ABOVE, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data, whose arguments have 8 bytes
_THIRD_ARGUMENT, _FOURTH_ARGUMENT = _FIRST_ARGUMENT + 16, _FIRST_ARGUMENT + 24
_X32 = 0x40000000  # x86_64 alone: system calls of the x32 ABI have numbers from here on
_NEW_NAMESPACES = 0x7E020000  # all CLONE_NEW* flags
_AF_UNIX = 1
_MAP_SHARED, _MAP_ANONYMOUS = 0x01, 0x20
_FIRST_STRANGE_ADVICE = 26  # of madvise; some of those from here on take pages of the machine out of use

# Number on x86_64, on aarch64. Those that are alike on both architectures stand in _SAME.
_REFUSED = {
    **{"ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "bpf": (321, 280)},
    **{"keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "perf_event_open": (298, 241)},
    **{"userfaultfd": (323, 282), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41)},
    **{"unshare": (272, 97), "setns": (308, 268), "memfd_create": (319, 279), "shmget": (29, 194)},
    **{"msgget": (68, 186), "semget": (64, 190), "kexec_load": (246, 104), "kexec_file_load": (320, 294)},
    **{"init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "vmsplice": (278, 75)},
    **{"open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "quotactl": (179, 60)},
}
# io_uring (3), open_tree to fspick (6), pidfd_open, pidfd_getfd, mount_setattr, memfd_secret
_SAME = (425, 426, 427, 428, 429, 430, 431, 432, 433, 434, 438, 442, 447)
_CLONE, _CLONE3, _SOCKET, _MMAP, _MADVISE = (56, 220), 435, (41, 198), (9, 222), (28, 233)

_COMPUTING = {
    **{"read": (0, 63), "write": (1, 64), "close": (3, 57), "fstat": (5, 80), "lseek": (8, 62), "mmap": (9, 222)},
    **{"mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "mremap": (25, 216)},
    **{"rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132)},
    **{"getpid": (39, 172), "exit": (60, 93), "exit_group": (231, 94), "futex": (202, 98), "sched_yield": (24, 124)},
    **{"gettimeofday": (96, 169), "clock_gettime": (228, 113), "clock_nanosleep": (230, 115), "times": (100, 153)},
    **{"getrandom": (318, 278), "getrusage": (98, 165), "setitimer": (38, 103), "getuid": (102, 174)},
}


def supported() -> bool:
    """Tell whether filters for this machine's architecture are known."""
    return platform.machine() in _AUDIT


def surroundings() -> bytes:
    """Return the filter for programs in namespaces: no new namespace, tracing, kernel interface or hidden memory."""
    column = _column()
    refused = [*(numbers[column] for numbers in _REFUSED.values()), *_SAME]
    tests = [step for number in refused for step in _if_equal(number, _ERROR | errno.EPERM)]
    # Without clone3 the C library falls back to clone, whose flags a filter can see.
    tests += _if_equal(_CLONE3, _ERROR | errno.ENOSYS)
    tests += [(_JUMP_EQUAL, 0, 4, _CLONE[column]), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
    tests += [(_JUMP_SET, 0, 1, _NEW_NAMESPACES), (_RETURN, 0, 0, _ERROR | errno.EPERM), (_RETURN, 0, 0, _ALLOW)]
    # Pages that are shared and have no file count for no process once they are unmapped, and stay.
    tests += [(_JUMP_EQUAL, 0, 5, _MMAP[column]), (_LOAD, 0, 0, _FOURTH_ARGUMENT)]
    tests += [(_JUMP_SET, 0, 2, _MAP_ANONYMOUS), (_JUMP_SET, 0, 1, _MAP_SHARED)]
    tests += [(_RETURN, 0, 0, _ERROR | errno.EPERM), (_RETURN, 0, 0, _ALLOW)]
    tests += [(_JUMP_EQUAL, 0, 3, _SOCKET[column]), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
    tests += [(_JUMP_EQUAL, 1, 0, _AF_UNIX), (_RETURN, 0, 0, _ERROR | errno.EPERM)]
    return _assembled([*_prologue(), *tests, (_RETURN, 0, 0, _ALLOW)])


def computation() -> bytes:
    """Return the filter for pure computation: memory, time, open files and the end; all else fails with EPERM."""
    column = _column()
    tests = [step for numbers in _COMPUTING.values() for step in _if_equal(numbers[column], _ALLOW)]
    tests += [(_JUMP_EQUAL, 0, 3, _MADVISE[column]), (_LOAD, 0, 0, _THIRD_ARGUMENT)]
    tests += [(_JUMP_ABOVE, 1, 0, _FIRST_STRANGE_ADVICE), (_RETURN, 0, 0, _ALLOW)]
    return _assembled([*_prologue(), *tests, (_RETURN, 0, 0, _ERROR | errno.EPERM)])


_Step = tuple[int, int, int, int]  # code, jump if true, jump if false, constant


def _column() -> int:
    return list(_AUDIT).index(platform.machine())


def _prologue() -> list[_Step]:
    """Kill a program that calls by another architecture's numbers; then load the number of the call."""
    steps: list[_Step] = [(_LOAD, 0, 0, _ARCHITECTURE), (_JUMP_EQUAL, 1, 0, _AUDIT[platform.machine()])]
    steps += [(_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NUMBER)]
    return [*steps, (_JUMP_ABOVE, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]


def _if_equal(number: int, verdict: int) -> list[_Step]:
    return [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, verdict)]


def _assembled(steps: list[_Step]) -> bytes:
    return b"".join(struct.pack("HBBI", *step) for step in steps)
