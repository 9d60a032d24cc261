#!/usr/bin/env python3
"""What serving costs, on this machine over loopback: perf/serving.py BUILD [--json FILE] [--seconds 5]

Starts one server of the embedded model and a router, and prints
  overhead    what a token takes over RPC (`pleat ask`) and over HTTP beyond the engine's own step, at one stream
  streams     tokens a second with 1 to 32 streams that always write
  load        time to first token and between tokens under Poisson arrivals at 70 % of what 1, 8 and 32 streams can take
  overload    Poisson arrivals at four times that, to a short queue: who is turned away, and the peak memory
each as a line for people and, with --json, as a JSON object a line (names as of `vllm bench serve`). Clients are this
process, on the same processors.
"""

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time

PROMPT = "The history of the"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--model", default="models/pleat-gpt2-9m")
    parser.add_argument("--json")
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=9, help="of the overhead's, whose median counts")
    return parser.parse_args()


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


class Measured:
    """One request: when it was sent and when each token came."""

    def __init__(self):
        self.status, self.start, self.tokens, self.whole = 0, time.perf_counter(), [], False

    def first(self):
        return self.tokens[0] - self.start

    def gaps(self):
        return [b - a for a, b in zip(self.tokens, self.tokens[1:])]


async def stream(address, tokens, seed=0):
    """A streamed completion, with log probabilities, which tell the tokens of an event."""
    measured = Measured()
    body = json.dumps({"prompt": PROMPT, "max_tokens": tokens, "temperature": 0, "seed": seed, "stream": True,
                       "ignore_eos": True, "logprobs": 0})
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write((f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
                  f"Content-Length: {len(body)}\r\n\r\n{body}").encode())
    measured.status = int((await reader.readline()).split()[1])
    while (await reader.readline()) not in (b"\r\n", b""):
        pass
    async for line in reader:
        if line.startswith(b"data: [DONE]"):
            measured.whole = len(measured.tokens) == tokens
        elif b'"token_logprobs"' in line:
            logprobs = json.loads(line[6:])["choices"][0]["logprobs"]
            measured.tokens += [time.perf_counter()] * len(logprobs["token_logprobs"])
    writer.close()
    return measured


def http_token(address, tokens):
    """Microseconds a token, from the first one that came to the last."""
    measured = asyncio.run(stream(address, tokens))
    assert measured.whole, "a stream without faults is not whole"
    return 1e6 * (measured.tokens[-1] - measured.tokens[0]) / (tokens - 1)


def overhead(ask, server, router, rounds, short=20, long=420):
    """What a token takes at the client beyond the engine's own step, which the server counts in the same run: medians. And
    the processors' time for it over HTTP, which others on the machine do not lengthen."""
    def engine():
        stats = json.loads(subprocess.run((*ask, server.address, "--stats", "--json"), check=True, capture_output=True).stdout)
        return stats["stepSeconds"], stats["generatedTokens"]

    def beside_own_step(measure):
        before = engine()
        taken = measure()
        after = engine()
        return taken, 1e6 * (after[0] - before[0]) / (after[1] - before[1])

    def rpc():  # between two lengths, so that the program's start does not count
        text = ("--prompt", PROMPT, "--temperature", "0", "--ignore-eos", "--max-tokens")
        return 1e6 * (run_seconds(*ask, server.address, *text, str(long)) - run_seconds(*ask, server.address, *text, str(short))) / (
            long - short)

    steps, over_rpc, over_http, busy = [], [], [], []

    def http():
        before = router.busy_us(), server.busy_us(but_first=True)
        taken = http_token(router.address, long)
        busy.append([(router.busy_us() - before[0]) / long, (server.busy_us(but_first=True) - before[1]) / long])
        return taken

    for _ in range(rounds):
        for measure, over in ((rpc, over_rpc), (http, over_http)):
            taken, step = beside_own_step(measure)
            over.append(taken - step)
            steps.append(step)
    return {"step_us": statistics.median(steps), "rpc_us": statistics.median(over_rpc),
            "http_us": statistics.median(over_http), "router_busy_us": statistics.median(b[0] for b in busy),
            "server_busy_us": statistics.median(b[1] for b in busy)}


def run_seconds(*command):
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def wait_until_ready(address):
    for _ in range(200):
        if asyncio.run(stream(address, 1)).whole:
            return
        time.sleep(0.05)
    sys.exit("perf/serving.py: the router has no replica")


async def closed_loop(address, streams, seconds, tokens=48):
    """Streams that always write. The requests that ended, and the time they took."""
    done, start = [], time.perf_counter()

    async def one(number):
        while time.perf_counter() - start < seconds:
            done.append(await stream(address, tokens, number))

    await asyncio.gather(*(one(number) for number in range(streams)))
    return done, time.perf_counter() - start


async def poisson(address, rate, streams, seconds, tokens=48):
    """Requests at random times, of which at most so many are under way (0: any number)."""
    chance, gate, start = random.Random(1), asyncio.Semaphore(streams or 1 << 30), time.perf_counter()

    async def one(number):
        async with gate:
            return await stream(address, tokens, number)

    tasks = []
    while time.perf_counter() - start < seconds:
        tasks.append(asyncio.create_task(one(len(tasks))))
        await asyncio.sleep(chance.expovariate(rate))
    done = await asyncio.gather(*tasks)
    return done, time.perf_counter() - start


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def latencies(done):
    first = [1000 * one.first() for one in done if one.tokens]
    gaps = [1000 * gap for one in done for gap in one.gaps()]
    return {"p50_ttft_ms": percentile(first, 0.5), "p99_ttft_ms": percentile(first, 0.99),
            "p50_itl_ms": percentile(gaps, 0.5), "p99_itl_ms": percentile(gaps, 0.99)}


def main():
    options = arguments()
    pleat, model = options.build + "/pleat", options.model
    out = open(options.json, "w") if options.json else None

    def say(sentence, **fields):
        print(sentence.format(**fields), flush=True)
        if out:
            out.write(json.dumps({"measured": sentence.split(":")[0], **fields}) + "\n")
            out.flush()

    serve = (pleat, "serve", "--model", model, "--threads", "1", "--batch", "32", "--listen", "127.0.0.1:0")
    route = lambda server: (pleat, "route", "--quiet", "--http", "127.0.0.1:0", "--max-texts", "4096",
                            "--max-connections", "4096", "--replica", server.address)
    with Program(*serve) as server, Program(*route(server)) as router:
        wait_until_ready(router.address)
        say("overhead: the engine's own step takes {step_us:.0f} us at one stream; a token over RPC {rpc_us:.0f} more, over "
            "HTTP {http_us:.0f} more, for which the router runs {router_busy_us:.0f} us and the server's event loop "
            "{server_busy_us:.0f}", **overhead((pleat, "ask"), server, router, options.rounds))
        capacity = {}
        for streams in (1, 2, 4, 8, 16, 32):
            done, took = asyncio.run(closed_loop(router.address, streams, options.seconds))
            capacity[streams] = len(done) / took
            say("streams: {max_concurrency} always writing: {output_throughput:.0f} tokens/s, {request_throughput:.1f} "
                "requests/s", max_concurrency=streams, request_throughput=capacity[streams],
                output_throughput=sum(len(one.tokens) for one in done) / took, completed=len(done), duration=took)
        for streams in (1, 8, 32):
            rate = 0.7 * capacity[streams]
            done, took = asyncio.run(poisson(router.address, rate, streams, options.seconds))
            say("load: {request_rate:.1f} requests/s to {max_concurrency} streams: first token p50 {p50_ttft_ms:.1f} p99 "
                "{p99_ttft_ms:.1f} ms, between tokens p50 {p50_itl_ms:.2f} p99 {p99_itl_ms:.2f} ms",
                request_rate=rate, max_concurrency=streams, completed=sum(one.whole for one in done),
                failed=sum(not one.whole for one in done), duration=took, **latencies(done))
    with Program(*serve, "--queue-requests", "64") as server, Program(*route(server)) as router:
        wait_until_ready(router.address)
        asyncio.run(closed_loop(router.address, 32, 1))
        before = server.peak_mb(), router.peak_mb()
        rate = 4 * capacity[32]
        done, took = asyncio.run(poisson(router.address, rate, 0, options.seconds))
        accepted = [one for one in done if one.status == 200]
        say("overload: {request_rate:.0f} requests/s: {completed} whole, {failed} accepted and not whole, {rejected} turned "
            "away, {other} other; peak memory grew by {server_mb:.1f} MB (server), {router_mb:.1f} MB (router)",
            request_rate=rate, completed=sum(one.whole for one in accepted),
            failed=sum(not one.whole for one in accepted), rejected=sum(one.status == 429 for one in done),
            other=sum(one.status not in (200, 429) for one in done), duration=took,
            server_mb=server.peak_mb() - before[0], router_mb=router.peak_mb() - before[1])
        if any(not one.whole for one in accepted):
            sys.exit("perf/serving.py: an accepted request failed")


main()
