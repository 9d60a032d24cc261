"""Hosts that are network namespaces of this machine, on one bridge. The test's own namespace is the router's host.

`go_inside` puts the program into namespaces of its own first (network, mounts, processes), so nothing of it is seen
outside and all of it ends with it, however it ends.
"""

import os
import signal
import subprocess
import sys
import time

INSIDE = "PLEAT_CHAOS_INSIDE"
ROUTER = "10.99.0.254"


def go_inside():
    """Why it cannot be done. Otherwise the program runs again, inside, where this returns None."""
    if os.environ.get(INSIDE):
        return None
    apart = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        apart += ["--user", "--map-root-user"]
    probe = "ip link add bridge0 type bridge && ip link add veth0 type veth peer name veth1 && unshare --net --uts hostname chaos"
    try:
        tried = subprocess.run(apart + ["sh", "-c", probe], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if tried.returncode != 0:
        return tried.stderr.strip() or f"unshare exits with {tried.returncode}"
    os.environ[INSIDE] = "1"
    os.execvp(apart[0], apart + [sys.executable] + sys.argv)


def ip(*words):
    subprocess.run(["ip", *words], check=True)


class Host:
    """One namespace; a process that sleeps holds it."""

    def __init__(self, name, address):
        self.name, self.address = name, address
        self.holder = subprocess.Popen(["unshare", "--net", "--uts", "sleep", "infinity"])
        own = os.stat("/proc/self/ns/net").st_ino
        while self.namespace_of(self.holder.pid) in (own, None):
            time.sleep(0.01)
        self.namespace = self.namespace_of(self.holder.pid)
        holder = str(self.holder.pid)
        ip("link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", holder)
        ip("link", "set", self.cable, "master", "bridge0", "up")
        for line in (["hostname", name], ["ip", "link", "set", "lo", "up"],
                     ["ip", "address", "add", f"{address}/24", "dev", "eth0"], ["ip", "link", "set", "eth0", "up"]):
            subprocess.run(self.there(line), check=True)

    @property
    def cable(self):
        return f"to-{self.name}"

    def there(self, words):
        return ["nsenter", "--target", str(self.holder.pid), "--net", "--uts"] + words

    def cut(self):
        ip("link", "set", self.cable, "down")

    def mend(self):
        ip("link", "set", self.cable, "up")

    @staticmethod
    def namespace_of(pid):
        try:
            return os.stat(f"/proc/{pid}/ns/net").st_ino
        except OSError:
            return None

    def running(self, *programs):
        """Processes of this host that run one of these: pid to parent."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                program = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
                with open(f"/proc/{pid}/stat") as file:
                    parent = int(file.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue  # it is gone
            if program in programs and self.namespace_of(pid) == self.namespace:
                found[int(pid)] = parent
        return found

    def ranks(self):
        """The processes that compute: each is its guardian's child, and both are the same program."""
        processes = self.running("pleat")
        return [pid for pid, parent in processes.items() if parent in processes]


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended by itself


def make_network(folder, names):
    """Hosts of these names, which know each other by them."""
    ip("link", "set", "lo", "up")
    ip("link", "add", "bridge0", "type", "bridge")
    ip("address", "add", f"{ROUTER}/24", "dev", "bridge0")
    ip("link", "set", "bridge0", "up")
    addresses = {name: f"10.99.0.{number}" for number, name in enumerate(names, 1)}
    known = os.path.join(folder, "hosts")
    with open(known, "w") as file:
        file.write("127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in addresses.items()))
    subprocess.run(["mount", "--bind", known, "/etc/hosts"], check=True)
    return [Host(name, address) for name, address in addresses.items()]


def remote_shell(folder, hosts):
    """A program in ssh's place: what Open MPI starts its daemons on other hosts with."""
    path = os.path.join(folder, "remote_shell")
    with open(path, "w") as file:
        file.write('#!/bin/sh\nhost=$1\nshift\ncase $host in\n')
        for host in hosts:
            file.write(f"{host.name} | {host.address}) set -- {' '.join(host.there(['sh', '-c']))} \"$*\" ;;\n")
        file.write('*) echo "there is no host $host" >&2; exit 255 ;;\nesac\nexec "$@"\n')
    os.chmod(path, 0o755)
    return path
