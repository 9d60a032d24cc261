"""Clients that stream texts from a router and compare each with what it has to be."""

import collections
import http.client
import json
import threading
import time

PATIENCE = 60  # seconds that an answer may stand still


class Refused(Exception):
    """With a status, or, where the text has begun, as an event."""

    def __init__(self, status, error, begun=False):
        super().__init__(f"{status}: {error['message']}")
        self.status, self.begun = status, begun


def stream(address, request):
    """The text of a request, and how it ended. Raises Refused; OSError, HTTPException or ValueError where it is lost."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    try:
        body = json.dumps({**request, "stream": True})
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise Refused(answer.status, json.loads(answer.read())["error"])
        text, reason = "", None
        for line in answer:
            if not line.startswith(b"data: "):
                continue
            data = line[len(b"data: "):].strip()
            if data == b"[DONE]":
                if reason is None:
                    raise ValueError("an end without a reason")
                return text, reason
            event = json.loads(data)
            if "error" in event:
                raise Refused(503 if event["error"]["code"] == "unavailable" else 500, event["error"], True)
            text += event["choices"][0]["text"]
            reason = event["choices"][0]["finish_reason"] or reason
        raise ValueError("the stream ended without an end")
    finally:
        connection.close()


class Clients:
    """So many at a time, each with one request after another until it is told to stop."""

    def __init__(self, address, count, requests, whole):
        self.address, self.requests, self.whole = address, requests, whole
        self.counts, self.oddities = collections.Counter(), []
        self.lock, self.over = threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self.ask_on, args=(number,), daemon=True) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def ask_on(self, number):
        while not self.over.is_set():
            request = self.requests[number % len(self.requests)]
            number += len(self.threads) + 1
            ending, oddity = self.ask(request)
            with self.lock:
                self.counts[ending] += 1
                if oddity:
                    self.oddities.append(oddity)
            if ending != "whole":
                time.sleep(0.5)

    def ask(self, request):
        """One of whole, refused, broken off, wrong, lost; and a sentence about the last three."""
        try:
            text, _ = stream(self.address, request)
        except Refused as refused:
            if refused.status != 503:
                return "wrong", f"refused with {refused}"
            return ("broken off", str(refused)) if refused.begun else ("refused", None)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return "lost", f"{type(error).__name__}: {error}"
        expected = self.whole[request["seed"]]
        return ("whole", None) if text == expected else ("wrong", f"{text!r} instead of {expected!r}")

    def stop(self):
        """After the requests under way."""
        self.over.set()
        for thread in self.threads:
            thread.join(2 * PATIENCE)
            if thread.is_alive():
                self.counts["lost"] += 1
                self.oddities.append("a request never ends")
