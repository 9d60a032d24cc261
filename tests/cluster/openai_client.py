"""The official `openai` client against a router: python3 openai_client.py http://127.0.0.1:PORT

Plain calls, streams and batches, of completions and of chats where the model has a template; what it parses is compared
with what the same request gives in another way. Exits with 1 and a sentence at the first difference.
"""

import json
import sys
import time

import openai


def check(holds, sentence):
    if not holds:
        sys.exit(f"openai_client: {sentence}")


def completions(client, model):
    request = dict(model=model, prompt="The history of the", max_tokens=24, temperature=0.8, seed=5)
    plain = client.completions.create(**request)
    text = plain.choices[0].text
    check(plain.object == "text_completion" and plain.choices[0].finish_reason in ("stop", "length"), "a plain answer")
    check(plain.usage.total_tokens == plain.usage.prompt_tokens + plain.usage.completion_tokens, "usage does not add up")

    events = list(client.completions.create(**request, stream=True, stream_options={"include_usage": True}))
    streamed = "".join(choice.text for event in events for choice in event.choices)
    check(streamed == text, f"the stream gives {streamed!r}, the plain answer {text!r}")
    check(events[-1].usage == plain.usage, "the stream's usage is another one")

    several = client.completions.create(**request, n=3, logprobs=2)
    check([choice.index for choice in several.choices] == [0, 1, 2], "n=3 gives other indices")
    check(several.choices[0].text == text, "the first of three is another text")
    logprobs = several.choices[0].logprobs
    check("".join(logprobs.tokens).startswith(text), "the tokens do not join to the text")
    check(all(len(best) <= 2 and value <= 0 for best, value in zip(logprobs.top_logprobs, logprobs.token_logprobs)),
          "log probabilities")

    word = text.split()[2]
    stopped = client.completions.create(**request, stop=[word])
    check(stopped.choices[0].text == text[: text.index(word)], "stop does not end the text before the word")
    check(stopped.choices[0].finish_reason == "stop", "stop is no reason")

    ids = client.completions.create(model=model, prompt=[464, 2106], max_tokens=3)
    check(ids.usage.prompt_tokens == 2, "a prompt of two token ids")


def chats(client, model):
    request = dict(model=model, messages=[{"role": "user", "content": "Hello"}], max_completion_tokens=16, seed=3)
    try:
        plain = client.chat.completions.create(**request, logprobs=True, top_logprobs=2)
    except openai.BadRequestError as error:
        check("chat template" in error.message, f"a chat is refused with {error.message!r}")
        print("chat: the model has no template, and says so")
        return
    text = plain.choices[0].message.content
    check(plain.choices[0].message.role == "assistant", "the role")
    content = plain.choices[0].logprobs.content
    check(b"".join(bytes(token.bytes) for token in content).decode(errors="replace").startswith(text), "bytes of tokens")
    events = list(client.chat.completions.create(**request, stream=True))
    check(events[0].choices[0].delta.role == "assistant", "the first delta's role")
    streamed = "".join(event.choices[0].delta.content or "" for event in events)
    check(streamed == text, f"the stream gives {streamed!r}, the plain answer {text!r}")
    check(events[-1].choices[0].finish_reason == plain.choices[0].finish_reason, "the stream's end")
    print("chat: the same plain and streamed")


def batches(client, model):
    lines = [{"custom_id": f"line {seed}", "method": "POST", "url": "/v1/completions",
              "body": {"model": model, "prompt": "The history of the", "max_tokens": 8, "seed": seed}} for seed in range(6)]
    lines.append({"custom_id": "wrong", "method": "POST", "url": "/v1/completions",
                  "body": {"model": model, "prompt": "x", "top_p": 2}})
    content = "\n".join(json.dumps(line) for line in lines).encode()
    file = client.files.create(file=("lines.jsonl", content), purpose="batch")
    check(file.bytes == len(content) and file.filename == "lines.jsonl", "the file that was sent")
    check(client.files.content(file.id).read() == content, "the file's content")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h",
                                  metadata={"for": "a test"})
    for _ in range(600):
        batch = client.batches.retrieve(batch.id)
        if batch.status == "completed":
            break
        time.sleep(0.1)
    counts = batch.request_counts
    check((counts.total, counts.completed, counts.failed) == (7, 6, 1), f"the batch counts {counts}")
    check(batch.metadata == {"for": "a test"}, "the batch's metadata")
    for text in client.files.content(batch.output_file_id).text.splitlines():
        record = json.loads(text)
        body = next(line["body"] for line in lines if line["custom_id"] == record["custom_id"])
        direct = client.completions.create(**body).choices[0].text
        check(record["response"]["body"]["choices"][0]["text"] == direct, f"the text of {record['custom_id']}")
    error = json.loads(client.files.content(batch.error_file_id).text)
    check(error["custom_id"] == "wrong" and "top_p" in json.dumps(error), "the error's record")
    check(batch.id in [one.id for one in client.batches.list()], "the list of batches")
    check(file.id in [one.id for one in client.files.list()] and client.files.delete(file.id).deleted, "the list of files")


def refusals(client, model):
    def refused(kind, **request):
        try:
            client.completions.create(**{"model": model, "prompt": "x", **request})
        except kind as error:
            return error
        sys.exit(f"openai_client: {request} is not refused")

    check("top_p" in refused(openai.BadRequestError, top_p=2).message, "the sentence names the field")
    refused(openai.NotFoundError, model="another")
    with client.completions.create(model=model, prompt="x", max_tokens=400, stream=True,
                                   extra_body={"ignore_eos": True}) as stream:
        next(iter(stream))  # and leave


def main(url):
    client = openai.OpenAI(base_url=url + "/v1", api_key="none-is-needed", max_retries=0)
    model = client.models.list().data[0].id
    check(client.models.retrieve(model).id == model, "the model by its name")
    completions(client, model)
    chats(client, model)
    batches(client, model)
    refusals(client, model)
    print(f"openai {openai.__version__} and {model}: every check holds")


main(sys.argv[1])
