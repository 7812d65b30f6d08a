"""Hosts as network namespaces, and what can happen to their links.

    emitter host e  --veth--  10.77.0.0/30  --.
    analyzer host a1 --veth-- 10.77.1.0/30  --+-- distributor host d
    analyzer host a2 --veth-- 10.77.2.0/30  --'

Every host has a link of its own to the distributor, so that one link can fail alone. The distributor
has the first address of each /30, the host the second.
"""

import os
import shutil
import subprocess


class NotPermitted(Exception):
    """Namespaces cannot be made here; the text says why."""


def run(*command, check=True):
    """Runs a short command; its output, or an error that names it."""
    done = subprocess.run(command, capture_output=True, text=True)
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise RuntimeError(f"{' '.join(command)}: {said}")
    return done.stdout


def permitted():
    """Raises NotPermitted if namespaces with veth cannot be made."""
    for tool in ("ip", "ss"):
        if shutil.which(tool) is None:
            raise NotPermitted(f"'{tool}' is missing (package iproute2)")
    if os.geteuid() != 0:
        raise NotPermitted("network namespaces need root (try: sudo scripts/chaos.sh)")
    probe = Net(f"weirprobe{os.getpid()}", ["x"])
    try:
        probe.up()
    except RuntimeError as error:
        raise NotPermitted(f"namespaces are refused here: {error}") from error
    finally:
        probe.down()


class Net:
    """The namespaces of one run. `tag` begins all their names and must be unique on this machine."""

    def __init__(self, tag, hosts):
        self.tag = tag
        self.hosts = list(hosts)

    def name(self, host):
        """The namespace of a host; `d` is the distributor's."""
        return f"{self.tag}-{host}"

    def gateway(self, host):
        """The distributor's address on the link to this host."""
        return f"10.77.{self.hosts.index(host)}.1"

    def address(self, host):
        """The host's own address."""
        return f"10.77.{self.hosts.index(host)}.2"

    def up(self):
        """Makes everything."""
        d = self.name("d")
        run("ip", "netns", "add", d)
        run("ip", "-n", d, "link", "set", "lo", "up")
        for host in self.hosts:
            ns = self.name(host)
            run("ip", "netns", "add", ns)
            run("ip", "-n", d, "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", ns)
            run("ip", "-n", d, "addr", "add", f"{self.gateway(host)}/30", "dev", host)
            run("ip", "-n", ns, "addr", "add", f"{self.address(host)}/30", "dev", "eth0")
            run("ip", "-n", ns, "link", "set", "lo", "up")
            run("ip", "-n", ns, "link", "set", "eth0", "up")
            run("ip", "-n", d, "link", "set", host, "up")

    def down(self):
        """Removes everything, whatever state it is in. The veth pairs go with their namespaces."""
        for host in [*self.hosts, "d"]:
            run("ip", "netns", "del", self.name(host), check=False)

    def link_down(self, host):
        """The host's end goes down: the distributor's end loses its carrier."""
        run("ip", "-n", self.name(host), "link", "set", "eth0", "down")

    def link_up(self, host):
        """And up again."""
        run("ip", "-n", self.name(host), "link", "set", "eth0", "up")

    def _nft(self, host, *rule):
        run("ip", "netns", "exec", self.name(host), "nft", *rule)

    def vanish(self, host):
        """Drops everything that the host gets or sends: to the others it is gone without a word."""
        self._nft(host, "add table inet chaos")
        for hook in ("input", "output"):
            self._nft(host, f"add chain inet chaos {hook} {{ type filter hook {hook} priority 0; policy drop; }}")

    def reject(self, host):
        """The host answers every TCP segment with a reset."""
        self._nft(host, "add table inet chaos")
        self._nft(host, "add chain inet chaos input { type filter hook input priority 0; }")
        self._nft(host, "add rule inet chaos input meta l4proto tcp reject with tcp reset")

    def heal(self, host):
        """Takes the rules of `vanish` and `reject` away."""
        self._nft(host, "flush ruleset")

    def _connections(self, host, port, peer_port, *flags):
        at = ["dst", self.address(host)]
        for side, number in (("sport", port), ("dport", peer_port)):
            if number is not None:
                at += [side, "=", f":{number}"]
        return run("ip", "netns", "exec", self.name("d"), "ss", "-H", "-tn", *flags, *at).splitlines()

    def peers(self, host, port):
        """Ports of this host that are connected with a port of the distributor."""
        lines = self._connections(host, port, None, "state", "established")
        return [int(line.split()[-1].rpartition(":")[2]) for line in lines]

    def reset(self, host, port=None, peer_port=None):
        """Aborts the distributor's connections with this host: a reset goes out. How many."""
        return len(self._connections(host, port, peer_port, "-K"))

    def sysctl(self, host, **values):
        """Sets kernel variables of a host; `net_ipv4_tcp_rmem="4096 4096 8192"`."""
        for name, value in values.items():
            path = name.replace("net_ipv4_", "net/ipv4/").replace("net_core_", "net/core/")
            run("ip", "netns", "exec", self.name(host), "sh", "-c", f"echo '{value}' > /proc/sys/{path}")
