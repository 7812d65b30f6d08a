"""Holds one thread of a process still, and no other: a shard that hangs.

    hold-thread.py TID

Prints `held` when the thread stands still, and lets it go when standard input ends. Exit status 4: not permitted
here (ptrace).
"""
import ctypes
import os
import sys

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17
WALL = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ptrace(request, tid):
    if libc.ptrace(request, tid, None, None) == -1:
        error = ctypes.get_errno()
        print(f"ptrace: {os.strerror(error)}", file=sys.stderr)
        sys.exit(4)


tid = int(sys.argv[1])
ptrace(PTRACE_SEIZE, tid)
ptrace(PTRACE_INTERRUPT, tid)
os.waitpid(tid, WALL)
print("held", flush=True)
sys.stdin.read()
# The process may have been killed meanwhile.
libc.ptrace(PTRACE_DETACH, tid, None, None)
