"""The router's page before a folded model, in a headless Chromium: python3 page_client.py http://127.0.0.1:PORT [SCREENSHOT.png]

Writes a text with a seed and compares what the page shows with what the API gives, the layers' table too; sees a refusal.
Exits with 1 and a sentence at the first difference.
"""

import json
import sys
import time
import urllib.request

from playwright.sync_api import sync_playwright


def check(holds, sentence):
    if not holds:
        sys.exit(f"page_client: {sentence}")


def answer(url, body):
    request = urllib.request.Request(url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request))


def exact_neurons(url):
    """The layers' table as it must be while nobody writes: neurons and recall in percent."""
    stats = json.load(urllib.request.urlopen(url + "/v1/pleat/replicas"))["data"][0]["stats"]
    return [[str(number), f"{100 * layer['exact'] / (layer['neurons'] * stats['foldedTokens']):.1f}%",
             f"{100 * layer['recallFound'] / layer['recallNeeded']:.1f}%" if layer["recallNeeded"] else "–"]
            for number, layer in enumerate(stats["layers"])]


def main(url, screenshot=None):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        faults, foreign = [], []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: request.url.startswith(url) or foreign.append(request.url))
        page.goto(url)

        page.wait_for_selector("#replicas table")
        check("ready" in page.inner_text("#replicas"), "the table names no replica that is ready")

        page.fill("#prompt", "The history of the")
        page.fill("#max", "40")
        page.fill("#seed", "5")
        page.click("#go")
        page.wait_for_selector("#go:not([disabled])", timeout=60000)
        expected = answer(url, {"prompt": "The history of the", "max_tokens": 40, "temperature": 0.8, "seed": 5})
        text = page.text_content("#text")
        check(text == expected["choices"][0]["text"], f"the page shows {text!r}, the API gives {expected['choices'][0]['text']!r}")
        check(page.inner_text("#tokens") == str(expected["usage"]["completion_tokens"]), "the page counts other tokens")
        time.sleep(2)  # the router's look at the replica's counts, and the page's at the router's
        rows = page.locator("#replicas table").nth(2).locator("tbody tr").all()
        shown = [row.locator("td").all_inner_texts() for row in rows]
        check(shown == exact_neurons(url), f"the page shows {shown} of the layers, the API gives {exact_neurons(url)}")
        if screenshot:
            page.screenshot(path=screenshot, full_page=True)

        page.fill("#max", "100000")
        page.click("#go")
        page.wait_for_selector("#go:not([disabled])", timeout=60000)
        check(page.inner_text("#state") != "", "a request that is too large leaves no sentence")

        check(not faults, f"the page's script fails: {faults}")
        check(not foreign, f"the page asks elsewhere: {foreign}")
        browser.close()
    print("the page holds: text, counts, tables, a refusal, nothing from elsewhere")


main(*sys.argv[1:])
