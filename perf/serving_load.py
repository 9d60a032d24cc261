"""Streamed completions over HTTP, always so many at once or at random times, and what their client sees of them, in the terms
of `vllm bench serve`. For serving.py."""

import asyncio
import contextlib
import itertools
import json
import random
import re
import statistics
import time

PROMPT = "The history of the"
TOKEN_LOGPROBS = re.compile(rb'"token_logprobs":\[([^]]*)\]')
PROMPT_TOKENS = re.compile(rb'"prompt_tokens":(\d+)')
TURNED_AWAY = (429, 503)


class Request:
    """One request: its status (0: no answer), when it began, was sent and ended, and when each token came."""

    def __init__(self):
        self.start = time.perf_counter()
        self.status, self.sent, self.end, self.tokens, self.prompt_tokens, self.whole = 0, None, None, [], 0, False

    def failed(self):
        return not self.whole and self.status not in TURNED_AWAY


async def stream(address, tokens, seed=0):
    """A request for so many tokens. Its log probabilities tell the tokens of an event; events are not parsed, since the client
    takes its time from the servers it measures."""
    request = Request()
    body = json.dumps({"prompt": PROMPT, "max_tokens": tokens, "temperature": 0, "seed": seed, "ignore_eos": True, "logprobs": 0,
                       "stream": True, "stream_options": {"include_usage": True}})
    host, port = address.rsplit(":", 1)
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection(host, int(port))
        with contextlib.closing(writer):
            writer.write((f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
                          f"Content-Length: {len(body)}\r\n\r\n{body}").encode())
            request.sent = time.perf_counter()
            request.status = int((await reader.readline())[9:12] or 0)
            while (await reader.readline()) not in (b"\r\n", b""):
                pass
            request.whole = await events(reader, request) and len(request.tokens) == tokens
    request.end = time.perf_counter()
    return request


async def events(reader, request):
    """Notes what the events say until there are no more. Whether the last one came."""
    rest, ended = b"", False
    while more := await reader.read(1 << 16):
        *whole, rest = (rest + more).split(b"\n\n")
        for event in whole:
            if found := TOKEN_LOGPROBS.search(event):
                request.tokens += [time.perf_counter()] * (found[1].count(b",") + 1)
            elif found := PROMPT_TOKENS.search(event):
                request.prompt_tokens = int(found[1])
            else:
                ended |= event.endswith(b"data: [DONE]")
    return ended


async def closed_loop(address, streams, seconds, tokens=48):
    """Streams that always write: the requests, and when they began."""
    done, start = [], time.perf_counter()

    async def one(number):
        while time.perf_counter() - start < seconds:
            done.append(await stream(address, tokens, number))

    await asyncio.gather(*(one(number) for number in range(streams)))
    return done, start


def poisson_times(rate, seconds):
    """When the requests of a Poisson process come, all stretched alike so that they are as many as the rate says, as vLLM does."""
    chance = random.Random(1)
    times = list(itertools.accumulate(chance.expovariate(rate) for _ in range(round(rate * seconds))))
    return [at * len(times) / rate / times[-1] for at in times]


async def poisson(address, rate, streams, seconds, tokens=48):
    """Requests at random times, of which at most so many are under way (None: any number), and when they began. A request
    that is late makes no other one later."""
    gate = asyncio.Semaphore(streams) if streams else contextlib.nullcontext()

    async def one(number):
        async with gate:
            return await stream(address, tokens, number)

    tasks, start = [], time.perf_counter()
    for at in poisson_times(rate, seconds):
        await asyncio.sleep(start + at - time.perf_counter())
        tasks.append(asyncio.create_task(one(len(tasks))))
    return await asyncio.gather(*tasks), start


def offered_rate(done, start):
    """Requests a second until the last was sent."""
    sent = [one.sent for one in done if one.sent]
    return len(sent) / (max(sent) - start)


def percentile(ordered, share):
    """Between the two nearest, as numpy has it."""
    below, part = divmod(share * (len(ordered) - 1), 1)
    return (1 - part) * ordered[int(below)] + part * ordered[min(int(below) + 1, len(ordered) - 1)]


def in_ms(name, seconds):
    ordered = sorted(1000 * value for value in seconds) or [0.0]
    return {f"mean_{name}_ms": statistics.fmean(ordered), f"median_{name}_ms": statistics.median(ordered),
            f"std_{name}_ms": statistics.pstdev(ordered), f"p50_{name}_ms": percentile(ordered, 0.5),
            f"p99_{name}_ms": percentile(ordered, 0.99)}


def metrics(done, start):
    """vLLM's, but that `failed` leaves out those who were turned away, which are `rejected`. Times are of the whole texts, from
    when a request began, which is late where all streams were busy."""
    whole = [one for one in done if one.whole]
    read, written = sum(one.prompt_tokens for one in whole), sum(len(one.tokens) for one in whole)
    duration = max(one.end for one in done) - start
    return {"completed": len(whole), "failed": sum(one.failed() for one in done),
            "rejected": sum(one.status in TURNED_AWAY for one in done), "duration": duration,
            "total_input_tokens": read, "total_output_tokens": written, "request_throughput": len(whole) / duration,
            "output_throughput": written / duration, "total_token_throughput": (read + written) / duration,
            **in_ms("ttft", [one.tokens[0] - one.start for one in whole]),
            **in_ms("tpot", [(one.tokens[-1] - one.tokens[0]) / (len(one.tokens) - 1) for one in whole]),
            **in_ms("itl", [b - a for one in whole for a, b in zip(one.tokens, one.tokens[1:])]),
            **in_ms("e2el", [one.tokens[-1] - one.start for one in whole])}


if __name__ == "__main__":
    print(__doc__)
