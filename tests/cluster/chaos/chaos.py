"""chaos.py PLEAT MODEL [--seconds 60]: a router, two replicas on three hosts of this machine, 16 streaming clients, and faults.

One replica is a job of four ranks on two hosts, the other has the third host; both run under `pleat launch`. While the
clients stream, links are cut, a rank and a replica are killed and come back. Every request has to end with its text, or
with a clear 503 before it begins: a text that has begun is never without a replica for as long as a router waits. Exit codes: 0 so it was, 1 it was not, 77 there can be no network namespaces here.
"""

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import clients
import hosts

CLIENTS, REQUESTS, PORT = 16, 48, 7532
STEP_TIMEOUT = 5  # seconds
SKIPPED = 77
PROMPTS = ["The shared library is installed in", "A table is dropped when", "And the king said unto them,",
           "The history of the", "If the file cannot be opened"]


def say(sentence, begin=time.monotonic()):
    print(f"{time.monotonic() - begin:6.1f} s  {sentence}", flush=True)


def some_requests():
    return [{"prompt": PROMPTS[seed % len(PROMPTS)], "max_tokens": 40 + seed % 3 * 30, "temperature": 0.8, "seed": seed,
             "ignore_eos": True} for seed in range(REQUESTS)]


def whole_texts(pleat, model, folder, requests):
    """As one rank writes them, without a server: by seed."""
    records, output = os.path.join(folder, "in.jsonl"), os.path.join(folder, "out.jsonl")
    with open(records, "w") as file:
        for request in requests:
            file.write(json.dumps({"custom_id": str(request["seed"]), **request}) + "\n")
    subprocess.run([pleat, "generate", "--model", model, "--input", records, "--output", output, "--quiet"], check=True)
    with open(output) as file:
        return {int(line["custom_id"]): line["response"]["body"]["choices"][0]["text"] for line in map(json.loads, file)}


class Replica:
    """A job under a supervisor, on one host or several; the first one is where it listens."""

    def __init__(self, pleat, model, folder, shell, machines, ranks):
        self.machines, self.log = machines, os.path.join(folder, f"{machines[0].name}.log")
        where = os.path.join(folder, f"{machines[0].name}.hosts")
        with open(where, "w") as file:
            file.write("".join(f"{machine.name} slots={ranks // len(machines)}\n" for machine in machines))
        self.command = machines[0].there(
            [pleat, "launch", "-n", str(ranks), "--hosts", where, "--interface", "eth0", "--restarts", "100", "--", "serve",
             "--model", model, "--listen", self.address, "--threads", "1", "--step-timeout", str(STEP_TIMEOUT), "--quiet"])
        self.environment = {**os.environ, "TMPDIR": folder, "OMPI_MCA_plm_rsh_agent": shell, "OMPI_MCA_mpi_yield_when_idle": "1"}
        self.start()

    @property
    def address(self):
        return f"{self.machines[0].address}:{PORT}"

    def start(self):
        with open(self.log, "a") as log:
            self.supervisor = subprocess.Popen(self.command, env=self.environment, stdout=log, stderr=log)

    def restarts(self):
        """Of the job, by its supervisor."""
        with open(self.log) as log:
            return sum(" restart " in line for line in log)

    def kill(self):
        """All of it, as when its hosts lose power, but that their systems end the connections."""
        self.supervisor.kill()
        for machine in self.machines:
            hosts.kill(machine.running("pleat", "mpirun", "orted"))
        self.supervisor.wait()


def metric(router, name):
    """The sum over a metric's labels; 0 where nobody answers."""
    try:
        connection = http.client.HTTPConnection(router, timeout=5)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[-1]) for line in lines if line.startswith(name + "{"))


def wait_until(holds, seconds, what):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} within {seconds} s")
        time.sleep(0.2)


def kill_rank(host):
    wait_until(host.ranks, 30, f"no rank runs on {host.name}")
    hosts.kill([host.ranks()[0]])


def faults(seconds, two_hosts, one_host):
    """When, what is said, what is done."""
    far, lone = two_hosts.machines[1], one_host.machines[0]
    planned = [
        (0.10 * seconds, f"the link to {far.name} is cut, for less than the step timeout", far.cut),
        (0.10 * seconds + 1, f"the link to {far.name} is back", far.mend),
        (0.22 * seconds, f"a rank on {far.name} is killed", lambda: kill_rank(far)),
        (0.36 * seconds, f"the link to {lone.name} is cut", lone.cut),
        (0.36 * seconds + 4, f"the link to {lone.name} is back", lone.mend),
        (0.75 * seconds, f"the replica on {lone.name} is killed", one_host.kill),
        (0.75 * seconds + 2, f"the replica on {lone.name} is started", one_host.start),
    ]
    if seconds >= 60:
        planned += [
            (0.50 * seconds, f"the link to {far.name} is cut, for more than the step timeout", far.cut),
            (0.50 * seconds + STEP_TIMEOUT + 3, f"the link to {far.name} is back", far.mend),
            (0.75 * seconds + 0.5, f"and a rank on {far.name}: nobody is left", lambda: kill_rank(far)),
        ]
    return sorted(planned, key=lambda fault: fault[0])


def run(pleat, model, folder, seconds):
    requests = some_requests()
    whole = whole_texts(pleat, model, folder, requests)
    near, far, lone = hosts.make_network(folder, ["near", "far", "lone"])
    shell = hosts.remote_shell(folder, [near, far, lone])
    two_hosts = Replica(pleat, model, folder, shell, [near, far], 4)
    one_host = Replica(pleat, model, folder, shell, [lone], 1)
    router = f"{hosts.ROUTER}:8000"
    with open(os.path.join(folder, "router.log"), "w") as log:
        subprocess.Popen([pleat, "route", "--replica", two_hosts.address, one_host.address, "--http", router, "--piece-timeout", "8"],
                         stdout=log, stderr=log)
    wait_until(lambda: metric(router, "pleat:replica_up") == 2, 60, "the replicas are not ready")
    say(f"4 ranks on {near.name} and {far.name}, a replica on {lone.name}, a router before them; {CLIENTS} clients")

    begin = time.monotonic()
    crowd = clients.Clients(router, CLIENTS, requests, whole)
    for at, sentence, do in faults(seconds, two_hosts, one_host):
        time.sleep(max(0, begin + at - time.monotonic()))
        say(sentence)
        do()
    time.sleep(max(0, begin + seconds - time.monotonic()))
    crowd.stop()
    wait_until(lambda: metric(router, "pleat:replica_up") == 2, 60, "the replicas are not back")
    say("both replicas are back")
    restarts = two_hosts.restarts()
    moves = metric(router, "pleat:moves_total")
    counts = {ending: crowd.counts[ending] for ending in ("whole", "refused", "broken off", "wrong", "lost")}
    print("".join(f"{ending} {count}, " for ending, count in counts.items()) + f"moved {moves}, jobs started again {restarts}", flush=True)
    for oddity in crowd.oddities[:10]:
        print(f"chaos: {oddity}")
    return counts["broken off"] == counts["wrong"] == counts["lost"] == 0 and min(counts["whole"], moves, restarts) > 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("pleat")
    parser.add_argument("model")
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    why_not = hosts.go_inside()
    if why_not is not None:
        print(f"chaos: skipped, there can be no network namespaces here: {why_not}")
        sys.exit(SKIPPED)
    with tempfile.TemporaryDirectory() as folder:
        good = False
        try:
            good = run(os.path.abspath(options.pleat), os.path.abspath(options.model), folder, options.seconds)
        finally:
            if not good:
                for name in ("near.log", "lone.log", "router.log"):
                    path = os.path.join(folder, name)
                    if os.path.exists(path):
                        print(f"== {name}\n" + "".join(open(path).readlines()[-30:]), file=sys.stderr)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
