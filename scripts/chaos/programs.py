"""Weir's programs as child processes, on a host of `net.Net` or on this one.

A child is only ever signalled by its own pid. Emitters and analyzers end by themselves when the
harness goes away, because their standard input ends; the distributor is ended by `chaos.sh`.
"""

import json
import os
import re
import signal
import subprocess
import time

POLL_SECONDS = 0.01


class Program:
    """A child with its output in files. `prefix` is a command that becomes the program, on its host;
    `outer` one that becomes the whole, before the host is entered: there /sys is still this one's."""

    def __init__(self, name, argv, directory, netns=None, prefix=(), outer=(), env=None):
        self.name = name
        self.out_path = os.path.join(directory, f"{name}.out")
        self.err_path = os.path.join(directory, f"{name}.err")
        into = ["ip", "netns", "exec", netns] if netns else []
        with open(self.out_path, "ab") as out, open(self.err_path, "ab") as err:
            self.child = subprocess.Popen(
                [*outer, *into, *prefix, *argv], stdin=subprocess.PIPE, stdout=out, stderr=err,
                # Several distributors may run at once; none of them is asked anything by HTTP.
                env={"WEIR_HTTP": "off", **os.environ, **(env or {})},
            )

    @property
    def pid(self):
        """Of the program itself: what stands before it replaces itself by it."""
        return self.child.pid

    def is_alive(self):
        """Not ended yet."""
        return self.child.poll() is None

    def signal(self, number):
        """Sends a signal, if it still runs."""
        if self.is_alive():
            self.child.send_signal(number)

    def kill(self):
        """SIGKILL, and waits for the end."""
        self.signal(signal.SIGKILL)
        self.child.wait()

    def renice(self, nice):
        """Sets the priority of all its threads: Linux has one for each."""
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            os.setpriority(os.PRIO_PROCESS, int(thread), nice)

    def wait(self, seconds):
        """The exit status, None if it still runs after so long."""
        try:
            return self.child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None

    def close_stdin(self):
        """Asks a client program to end."""
        if self.child.stdin and not self.child.stdin.closed:
            self.child.stdin.close()

    def text(self, path):
        """A file of output so far."""
        with open(path, errors="replace") as file:
            return file.read()

    def log(self):
        """Standard error so far, as lines."""
        return self.text(self.err_path).splitlines()

    def report(self):
        """The last line of JSON on standard output, None without one."""
        for line in reversed(self.text(self.out_path).splitlines()):
            if line.startswith("{"):
                return json.loads(line)
        return None

    def dispose(self):
        """Ends it, whatever it does."""
        if self.is_alive():
            self.signal(signal.SIGCONT)
            self.kill()
        self.close_stdin()


CONSERVATION = re.compile(
    r"conservation (\w+).*received (\d+) = acked (\d+) \+ in flight (\d+) \+ queued (\d+) \+ dropped (\d+)"
)
REROUTED = re.compile(
    r"re-routed link=(\d+) analyzer=(\S+) messages=(\d+) detected_mono_ns=(\d+) last_written_mono_ns=(\d+)"
)
DOWN = re.compile(r'analyzer down link=(\d+) analyzer=(\S+) why="(.*)" (?:unacked|posts)=(\d+)')


class Distributor(Program):
    """`weir distributor` and what its log and its last words say."""

    def __init__(self, name, weir, flags, directory, **where):
        argv = [weir, "distributor", *flags]
        super().__init__(name, argv, directory, env={"RUST_LOG": "info"}, **where)

    def wait_ready(self, seconds=20):
        """Waits for the ready line."""
        self.wait_log(" ready ", seconds)

    def wait_log(self, text, seconds, count=1):
        """Waits until so many log lines contain a text; raises after so long."""
        deadline = time.monotonic() + seconds
        while sum(text in line for line in self.log()) < count:
            if not self.is_alive():
                raise RuntimeError(f"{self.name} ended: {self.log()[-3:]}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name}: no '{text}' x {count} within {seconds} s")
            time.sleep(POLL_SECONDS)

    def reroutes(self):
        """(analyzer, messages, detected ns, last written ns) of each line."""
        found = (REROUTED.search(line) for line in self.log())
        return [(m[2], int(m[3]), int(m[4]), int(m[5])) for m in found if m]

    def downs(self):
        """(analyzer, why, un-ACKed; over HTTP, open POSTs) of each link that died."""
        found = (DOWN.search(line) for line in self.log())
        return [(m[2], m[3], int(m[4])) for m in found if m]

    def books(self):
        """The closing balance: received, acked, in flight, queued, dropped; None without one."""
        found = CONSERVATION.search(self.text(self.out_path))
        if not found:
            return None
        names = ("received", "acked", "in_flight", "queued", "dropped")
        books = dict(zip(names, map(int, found.groups()[1:])))
        books["holds"] = found[1] == "holds"
        return books

    def count(self, reason):
        """A closing line such as `partial_memory_full 3`; 0 without one."""
        found = re.search(rf"^{reason} (\d+)$", self.text(self.out_path), re.MULTILINE)
        return int(found[1]) if found else 0

    def panicked(self):
        """Log lines of a panic."""
        return [line for line in self.log() if "panicked" in line]
