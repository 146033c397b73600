"""A wall clock of the worker's own, that can be made to jump while it runs."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from driver import Site

_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long *jump(void) {
    static volatile long *place;
    if (!place) {
        int file = open(getenv("TRIAL_CLOCK"), O_RDONLY);
        place = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
        close(file);
    }
    return place;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(clock, now);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec += *jump();
    return done;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec fine;
    clock_gettime(CLOCK_REALTIME, &fine);
    now->tv_sec = fine.tv_sec;
    now->tv_usec = fine.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *where) {
    struct timespec fine;
    clock_gettime(CLOCK_REALTIME, &fine);
    if (where) *where = fine.tv_sec;
    return fine.tv_sec;
}
"""


class Clock:
    """The wall clock of a site's processes. No jump moves the monotonic one, nor does this."""

    def __init__(self, site: Site) -> None:
        """Have the site's processes look at this clock; skip where no C compiler is."""
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            pytest.skip("gcc is not installed, to make the clock that jumps")
        source, library = site.root / "clock.c", site.root / "clock.so"
        source.write_text(_SHIM, encoding="ascii")
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        self._jump = site.root / "clock"
        self._jump.write_bytes(bytes(8))
        site.variables |= {"LD_PRELOAD": str(library), "TRIAL_CLOCK": str(self._jump)}

    def jump(self, seconds: int) -> None:
        """Set the clock so many seconds off the true time."""
        with self._jump.open("r+b") as file:
            file.write(seconds.to_bytes(8, "little", signed=True))
