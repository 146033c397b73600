"""The sandbox of a process that reads foreign bytes: limits on what it may ask of the kernel.

It holds for the rest of the process and for its children, and uses what the kernel offers. Landlock
(Linux 5.13 and newer) allows reading files below one folder, and nothing else in any file system.
seccomp, by libseccomp, allows the system calls for reading, computing and answering; all others
fail with EPERM: no sockets, no programs, no writing of files, no signals to other processes. Limits
on files apply in any case. See landlock(7), seccomp(2) and seccomp_rule_add(3).
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
_DESCRIPTORS = 64  # open at once, including the film

# The same numbers on every architecture.
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
_LANDLOCK_RULE_PATH_BENEATH = 1
_ACCESS_FS_READ_FILE = 1 << 2
_ACCESS_FS = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 5: 0xFFFF}  # all rights known to a version
_ACCESS_NET = {4: 0x3}  # TCP, to bind and to connect
_SCOPED = {6: 0x3}  # abstract sockets, and signals

_ALLOW, _FAIL = 0x7FFF0000, 0x00050000 | errno.EPERM
_CTL_TSYNC = 4  # apply the filter to existing threads too
_EQUAL, _MASKED_EQUAL = 4, 7
# Memory, time, waiting of threads; the film's descriptor; the socket to the parent; exit.
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
    """Restrict this process for the rest of its life. Load everything it needs before.

    Args:
        readable: the folder below which files may still be opened for reading. It is the folder as
            it is now: a folder that replaces it cannot be read. If there is none, no file can.

    Returns:
        The parts that are missing, a sentence each: none on Linux of 2022 or later with
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
        # Loaded while files can be opened; applied last, because it blocks Landlock's calls.
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
    """Have the kernel end this process after this many more seconds of processor time.

    The parent ends slow screeners; this limit works even if the parent is stopped.
    """
    spent = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(spent.ru_utime + spent.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _landlock(libc: ctypes.CDLL, readable: str | Path) -> None:
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise OSError(errno.EBUSY, "other threads are running, which it would not restrict")
    version = libc.syscall(
        _LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_CREATE_RULESET_VERSION
    )
    if version < 1:
        raise OSError(ctypes.get_errno(), "the kernel does not have it, or it is switched off")
    ruleset = _Ruleset(
        handled_access_fs=_known(_ACCESS_FS, version),
        handled_access_net=_known(_ACCESS_NET, version),
        scoped=_known(_SCOPED, version),
    )
    size = ctypes.c_size_t(ctypes.sizeof(ruleset))
    rules = _made(libc.syscall(_LANDLOCK_CREATE_RULESET, ctypes.byref(ruleset), size, 0))
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # not mounted
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
    """Return the rights of the newest version known to this kernel."""
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
        raise OSError(errno.ENOMEM, "libseccomp could not make a filter")
    try:
        _check(library.seccomp_attr_set(rules, _CTL_TSYNC, 1))
        for name in _CALLS:
            _allow(library, rules, name)
        # Open for reading only; limits and signals only on itself; no ioctl or fcntl that signals.
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
    """Allow a system call. One that this architecture lacks is skipped."""
    number = library.seccomp_syscall_resolve_name(name.encode())
    if number < 0:
        return
    add = library.seccomp_rule_add_array
    add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]
    arguments = (_Argument * len(where))(*where)
    _check(add(rules, _ALLOW, number, len(where), arguments if where else None))


def _check(result: int) -> None:
    """Raise an OSError for a negative return value of libseccomp."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))
