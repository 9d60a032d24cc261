"""The official `openai` client against a router: python3 openai_client.py http://127.0.0.1:PORT

Plain calls, streams and batches, of completions and of chats with a model whose template is ChatML; what it parses is
compared with what the same request gives in another way. Exits with 1 and a sentence at the first difference.
"""

import json
import re
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
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "The history of the"}]
    rendered = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages) + "<|im_start|>assistant\n"
    options = dict(model=model, temperature=0.8, seed=3, n=2, extra_body={"ignore_eos": True})
    request = dict(messages=messages, max_completion_tokens=16, **options)
    texts = client.completions.create(prompt=rendered, max_tokens=16, logprobs=2, **options)
    plain = client.chat.completions.create(**request, logprobs=True, top_logprobs=2)
    check(plain.usage == texts.usage, f"the chat's usage is {plain.usage}, its prompt's {texts.usage}")
    check([choice.index for choice in plain.choices] == [0, 1], "n=2 gives other indices")
    for said, written in zip(plain.choices, texts.choices, strict=True):
        check(said.message.role == "assistant", "the role")
        check(said.message.content == written.text, f"the chat is {said.message.content!r}, its prompt's text {written.text!r}")
        check(said.finish_reason == written.finish_reason, "the chat's end")
        content = said.logprobs.content
        check([token.logprob for token in content] == written.logprobs.token_logprobs, "log probabilities of a chat")
        check([{best.logprob for best in token.top_logprobs} for token in content]
              == [set(best.values()) for best in written.logprobs.top_logprobs], "the best tokens of a chat")
        joined = b"".join(bytes(token.bytes) for token in content).decode(errors="replace")
        joined = re.sub(r"<\|\w+\|>", "", joined)  # end tokens are no text
        check(joined.startswith(said.message.content), f"the bytes of the tokens of {said.message.content!r} are {joined!r}")

    streamed, reasons, usage = ["", ""], [None, None], None
    for event in client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True}):
        usage = event.usage or usage
        for choice in event.choices:
            streamed[choice.index] += choice.delta.content or ""
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    check(streamed == [choice.message.content for choice in plain.choices], f"the streams give {streamed}")
    check(reasons == [choice.finish_reason for choice in plain.choices], "the streams' ends")
    check(usage == plain.usage, "the streams' usage is another one")

    text = plain.choices[0].message.content
    check(len(text) > 8, f"the chat is {text!r}")
    word = text[len(text) // 2:][:3]
    stopped = client.chat.completions.create(**{**request, "n": 1}, stop=word).choices[0]
    check(stopped.message.content == text[: text.index(word)] and stopped.finish_reason == "stop", "stop does not end a chat")


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
