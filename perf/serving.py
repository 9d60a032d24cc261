#!/usr/bin/env python3
"""What serving costs, on this machine over loopback.

Starts one server of the embedded model and a router, and prints
  overhead    what a token takes over RPC (`pleat ask`) and over HTTP beyond the engine's own step, at one stream
  streams     tokens a second with 1 to 32 streams that always write
  load        time to first token and between tokens under Poisson arrivals at 70 % of what 1, 8 and 32 streams can take
  overload    Poisson arrivals at four times what 32 streams can take, to a short queue: who is turned away, and the peak memory
each as a line for people and, with --json, as a JSON object a line (names as of `vllm bench serve`). Clients are this
process, on the same processors. Ends with 1 where a request failed that was not turned away, where less than 95 % of the
overload was offered, and where a program's memory grew in it by more than what the queue may hold.
"""

import argparse
import asyncio
import collections
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time

import serving_load as load

QUEUE = 64
GROWTH_MB = QUEUE * (128 << 10) / 1e6  # a flow window for each request that is taken


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="the folder with pleat")
    parser.add_argument("--model", default="models/pleat-gpt2-9m")
    parser.add_argument("--json", help="the file to write")
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=15, help="of the overhead's")
    options = parser.parse_args()
    if not shutil.which(options.build + "/pleat"):
        parser.error(f"there is no program {options.build}/pleat")
    return options


class Program:
    """A program in the background, from the line that says where it listens."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        found = re.search(r"listening on (?:http://)?(\S+)", self.process.stdout.readline())
        if not found:
            sys.exit(f"perf/serving.py: {' '.join(command)} does not listen")
        self.address = found[1]

    def peak_mb(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(r"VmHWM:\s+(\d+)", status.read())[1]) / 1000

    def busy_us(self, but_first=False):
        """Time that its threads have been running on a processor; but_first: without the first one, which computes."""
        threads = [int(thread) for thread in os.listdir(f"/proc/{self.process.pid}/task")]
        spent = 0
        for thread in threads:
            if not (but_first and thread == self.process.pid):
                with open(f"/proc/{self.process.pid}/task/{thread}/schedstat") as schedule:
                    spent += int(schedule.read().split()[0])
        return spent / 1000

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def overhead(ask, server, router, rounds, short=20, long=220):
    """What a token takes at the client beyond the engine's own step, and the processors' time for it over HTTP: medians of all
    rounds, and for the first two their range. A round subtracts a short text from a long one, so that what comes once in a text
    (a program's start, the prompt) does not count, and the engine's steps in the same two texts."""
    def counters():
        stats = json.loads(subprocess.run((*ask, server.address, "--stats", "--json"), check=True, capture_output=True).stdout)
        return 1e6 * stats["stepSeconds"], router.busy_us(), server.busy_us(but_first=True)

    def a_token(write):
        """Microseconds: at the client, in the engine's steps, running in the router and in the server's event loop."""
        spent = []
        for tokens in (short, long):
            before, start = counters(), time.perf_counter()
            write(tokens)
            taken = 1e6 * (time.perf_counter() - start)
            spent.append([taken, *(b - a for a, b in zip(before, counters()))])
        return [(b - a) / (long - short) for a, b in zip(*spent)]

    def rpc(tokens):
        text = ("--prompt", load.PROMPT, "--temperature", "0", "--ignore-eos", "--max-tokens", str(tokens))
        subprocess.run((*ask, server.address, *text), check=True, stdout=subprocess.DEVNULL)

    def http(tokens):
        assert asyncio.run(load.stream(router.address, tokens)).whole, "a stream without faults is not whole"

    over_rpc, over_http = zip(*((a_token(rpc), a_token(http)) for _ in range(rounds)))
    found = {"step_us": statistics.median(step for _, step, *_ in over_rpc + over_http)}
    for name, over in (("rpc", over_rpc), ("http", over_http)):
        beyond = [taken - step for taken, step, *_ in over]
        found |= {f"{name}_us": statistics.median(beyond), f"{name}_us_range": (min(beyond), max(beyond))}
    return found | {"router_busy_us": statistics.median(router for _, _, router, _ in over_http),
                    "server_busy_us": statistics.median(loop for *_, loop in over_http)}


def wait_until_ready(address):
    for _ in range(200):
        if asyncio.run(load.stream(address, 1)).whole:
            return
        time.sleep(0.05)
    sys.exit("perf/serving.py: the router has no replica")


class Report:
    """What was measured, a line each, and what went wrong."""

    def __init__(self, path):
        self.out = open(path, "w") if path else None
        self.problems = []

    def say(self, sentence, **fields):
        print(sentence.format(**fields), flush=True)
        if self.out:
            self.out.write(json.dumps({"measured": sentence.split(":")[0], **fields}) + "\n")
            self.out.flush()

    def run(self, requests):
        done, start = asyncio.run(requests)
        if failed := collections.Counter(one.status for one in done if one.failed()):
            self.problems.append(f"requests failed, by status (0: no answer): {dict(failed)}")
        return done, start

    def end(self):
        if self.problems:
            sys.exit("\n".join(f"perf/serving.py: {problem}" for problem in self.problems))


def streams_and_load(report, router, seconds):
    """Requests a second that 32 streams take."""
    capacity = {}
    for streams in (1, 2, 4, 8, 16, 32):
        found = load.metrics(*report.run(load.closed_loop(router.address, streams, seconds)))
        capacity[streams] = found["request_throughput"]
        report.say("streams: {max_concurrency} always writing: {output_throughput:.0f} tokens/s, {request_throughput:.1f} "
                   "requests/s", max_concurrency=streams, request_rate="inf", **found)
    for streams in (1, 8, 32):
        rate = 0.7 * capacity[streams]
        requests = report.run(load.poisson(router.address, rate, streams, seconds))
        report.say("load: {request_rate:.1f} requests/s ({offered_rate:.1f} offered) to {max_concurrency} streams: first token "
                   "p50 {p50_ttft_ms:.1f} p99 {p99_ttft_ms:.1f} ms, between tokens p50 {p50_itl_ms:.2f} p99 {p99_itl_ms:.2f} ms",
                   max_concurrency=streams, request_rate=rate, offered_rate=load.offered_rate(*requests),
                   **load.metrics(*requests))
    return capacity[32]


def overload(report, server, router, rate, seconds):
    asyncio.run(load.closed_loop(router.address, 32, 1))
    before = server.peak_mb(), router.peak_mb()
    requests = report.run(load.poisson(router.address, rate, None, seconds))
    offered = load.offered_rate(*requests)
    grown = {"server_mb": server.peak_mb() - before[0], "router_mb": router.peak_mb() - before[1]}
    report.say("overload: {request_rate:.0f} requests/s ({offered_rate:.0f} offered): {completed} whole, {failed} failed, "
               "{rejected} turned away; first token p50 {p50_ttft_ms:.0f} p99 {p99_ttft_ms:.0f} ms; peak memory grew by "
               "{server_mb:.1f} MB (server), {router_mb:.1f} MB (router)",
               max_concurrency=None, request_rate=rate, offered_rate=offered, **load.metrics(*requests), **grown)
    if offered < 0.95 * rate:
        report.problems.append(f"{offered:.0f} requests/s were offered, {rate:.0f} asked")
    if max(grown.values()) > GROWTH_MB:
        report.problems.append(f"a program's peak memory grew by more than {GROWTH_MB:.1f} MB")


def main():
    options = arguments()
    pleat, report = options.build + "/pleat", Report(options.json)
    serve = (pleat, "serve", "--model", options.model, "--threads", "1", "--batch", "32", "--listen", "127.0.0.1:0")
    route = lambda server: (pleat, "route", "--quiet", "--http", "127.0.0.1:0", "--max-texts", "4096",
                            "--max-connections", "4096", "--replica", server.address)
    with Program(*serve) as server, Program(*route(server)) as router:
        wait_until_ready(router.address)
        report.say("overhead: the engine's own step takes {step_us:.0f} us at one stream; a token over RPC {rpc_us:.0f} more "
                   "({rpc_us_range[0]:.0f} to {rpc_us_range[1]:.0f}), over HTTP {http_us:.0f} more ({http_us_range[0]:.0f} to "
                   "{http_us_range[1]:.0f}), for which the router runs {router_busy_us:.0f} us and the server's event loop "
                   "{server_busy_us:.0f}", **overhead((pleat, "ask"), server, router, options.rounds))
        capacity = streams_and_load(report, router, options.seconds)
    with Program(*serve, "--queue-requests", str(QUEUE)) as server, Program(*route(server)) as router:
        wait_until_ready(router.address)
        overload(report, server, router, 4 * capacity, options.seconds)
    report.end()


main()
