"""A fence around a process that reads bytes from strangers: what it may still ask of the kernel.

For good, and for all that it starts. Two walls, each where the kernel has it: Landlock (Linux 5.13
and newer) leaves it files to read below one folder and nothing else of any file system; seccomp, by
libseccomp, leaves it the system calls of reading, computing and answering, and fails all others
with EPERM: no socket, no program, no file written, no word to another process. Limits on files
stand in any case. See landlock(7), seccomp(2) and seccomp_rule_add(3).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import termios
from pathlib import Path

_PR_SET_NO_NEW_PRIVS = 38
_DESCRIPTORS = 64  # open at once: its own, and the film's

# The same numbers on every architecture.
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
_LANDLOCK_RULE_PATH_BENEATH = 1
_ACCESS_FS_READ_FILE = 1 << 2
_ACCESS_FS = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 5: 0xFFFF}  # all rights that a version knows
_ACCESS_NET = {4: 0x3}  # TCP, to bind and to connect
_SCOPED = {6: 0x3}  # abstract sockets, and signals

_ALLOW, _FAIL = 0x7FFF0000, 0x00050000 | errno.EPERM
_CTL_TSYNC = 4  # the filter holds for threads that there are already
_EQUAL, _MASKED_EQUAL = 4, 7
# Memory, time, threads' waiting; the film's descriptor; the socket to the parent; the end.
_CALLS = (
    *("brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "membarrier"),
    *("clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time"),
    *("futex", "futex_time64", "sched_yield", "sched_getaffinity", "rseq", "set_robust_list"),
    *("getpid", "gettid", "getppid", "getrandom", "getrusage", "times", "getcpu", "uname"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall"),
    *("close", "fstat", "newfstatat", "stat", "lstat", "statx", "lseek"),
    *("read", "readv", "pread64", "write", "writev", "recvfrom", "recvmsg", "sendto", "sendmsg"),
    *("poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait", "getsockopt"),
    *("getrlimit", "setrlimit", "exit", "exit_group"),
)
_FCNTL = (fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL, fcntl.F_DUPFD_CLOEXEC)
_IOCTL = (termios.FIOCLEX, termios.FIONBIO, termios.FIONREAD, termios.TCGETS)
_NOT_READING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class _Ruleset(ctypes.Structure):
    _fields_ = [
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    ]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


class _Argument(ctypes.Structure):
    _fields_ = [
        ("number", ctypes.c_uint),
        ("comparison", ctypes.c_int),
        ("one", ctypes.c_uint64),
        ("other", ctypes.c_uint64),
    ]


def enclose(readable: str | Path) -> list[str]:
    """Fence this process in, for good. Call it with everything loaded that will be needed.

    Args:
        readable: the folder below which files may still be opened, to read. It is the folder that
            is there now: another that takes its place cannot be read, and where there is none,
            nothing can.

    Returns:
        What could not be done, a sentence each: nothing on a Linux of 2022 or later with
        libseccomp.

    Raises:
        OSError: a limit cannot be set.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs cannot be set")
    missing = []
    try:
        # Found while files may still be opened; put up last, as it fails Landlock's own calls.
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        library = None
        missing.append("no seccomp: libseccomp.so.2 is not installed")
    try:
        _landlock(libc, readable)
    except OSError as error:
        missing.append(f"no Landlock: {error.strerror}")
    try:
        if library is not None:
            _seccomp(library)
    except OSError as error:
        missing.append(f"no seccomp: {error.strerror}")
    return missing


def limit_processor_time(seconds: float) -> None:
    """Let the kernel end this process once it has computed for so many seconds more.

    The parent ends what takes too long; this holds while the parent itself is stopped.
    """
    spent = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(spent.ru_utime + spent.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _landlock(libc: ctypes.CDLL, readable: str | Path) -> None:
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise OSError(errno.EBUSY, "threads run that it would not hold")
    version = libc.syscall(
        _LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_CREATE_RULESET_VERSION
    )
    if version < 1:
        raise OSError(ctypes.get_errno(), "the kernel does not have it, or has it switched off")
    ruleset = _Ruleset(
        handled_access_fs=_known(_ACCESS_FS, version),
        handled_access_net=_known(_ACCESS_NET, version),
        scoped=_known(_SCOPED, version),
    )
    size = ctypes.c_size_t(ctypes.sizeof(ruleset))
    rules = _made(libc.syscall(_LANDLOCK_CREATE_RULESET, ctypes.byref(ruleset), size, 0))
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # a share that is away
            _let_read(libc, rules, readable)
        _made(libc.syscall(_LANDLOCK_RESTRICT_SELF, rules, 0))
    finally:
        os.close(rules)


def _let_read(libc: ctypes.CDLL, rules: int, readable: str | Path) -> None:
    folder = os.open(readable, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        beneath = _PathBeneath(allowed_access=_ACCESS_FS_READ_FILE, parent_fd=folder)
        _made(
            libc.syscall(
                _LANDLOCK_ADD_RULE, rules, _LANDLOCK_RULE_PATH_BENEATH, ctypes.byref(beneath), 0
            )
        )
    finally:
        os.close(folder)


def _known(since: dict[int, int], version: int) -> int:
    """Return the rights of the newest version that this kernel knows."""
    return next((since[at] for at in sorted(since, reverse=True) if at <= version), 0)


def _made(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _seccomp(library: ctypes.CDLL) -> None:
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    library.seccomp_load.argtypes = library.seccomp_release.argtypes = [ctypes.c_void_p]
    rules = library.seccomp_init(_FAIL)
    if not rules:
        raise OSError(errno.ENOMEM, "libseccomp made no filter")
    try:
        _check(library.seccomp_attr_set(rules, _CTL_TSYNC, 1))
        for name in _CALLS:
            _allow(library, rules, name)
        # Open to read; limits and signals of its own; nothing that has the kernel signal others.
        for name, flags in (("openat", 2), ("open", 1)):
            _allow(library, rules, name, _Argument(flags, _MASKED_EQUAL, _NOT_READING, 0))
        for name, itself in (("prlimit64", 0), ("kill", os.getpid()), ("tgkill", os.getpid())):
            _allow(library, rules, name, _Argument(0, _EQUAL, itself, 0))
        for name, requests in (("fcntl", _FCNTL), ("ioctl", _IOCTL)):
            for request in requests:
                _allow(library, rules, name, _Argument(1, _EQUAL, request, 0))
        _check(library.seccomp_load(rules))
    finally:
        library.seccomp_release(rules)


def _allow(library: ctypes.CDLL, rules: int, name: str, *where: _Argument) -> None:
    """Let a system call pass. What this architecture does not have is passed over."""
    number = library.seccomp_syscall_resolve_name(name.encode())
    if number < 0:
        return
    add = library.seccomp_rule_add_array
    add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]
    arguments = (_Argument * len(where))(*where)
    _check(add(rules, _ALLOW, number, len(where), arguments if where else None))


def _check(result: int) -> None:
    """Raise what libseccomp returns: 0, or a negative number of an error."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))
