"""What a process holds, so that a test can see whether it grows. Needs nothing but the package."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading

from sglang_collect import _core, errors


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


EXACT = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
"""For a program that looks at its heap: what a thread keeps for later would count as handed out."""


def heap() -> int:
    """Bytes that malloc has handed out; 0 where it is not glibc's or a sanitizer's stands in its place."""
    gc.collect()
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return 0
    mallinfo.restype = _Mallinfo
    info = mallinfo()
    return int(info.uordblks) + int(info.hblkhd)


def blocks() -> int:
    """Blocks that Python's own allocator has handed out; 0 under PYTHONMALLOC=malloc."""
    gc.collect()
    return sys.getallocatedblocks()


def references() -> dict[str, int]:
    """To each type of the extension and each exception: every object refers to its type."""
    gc.collect()
    types = {**vars(_core), **vars(errors)}
    return {name: sys.getrefcount(value) for name, value in types.items() if isinstance(value, type)}


def descriptors() -> int:
    """Open files and sockets; 0 where there is no /proc."""
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def threads() -> int:
    """Of the process, Python's or not; Python's alone where there is no /proc."""
    tasks = "/proc/self/task"
    return len(os.listdir(tasks)) if os.path.isdir(tasks) else threading.active_count()
