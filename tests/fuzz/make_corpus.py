#!/usr/bin/env python3
"""The seeds of the fuzz targets, a few small files each (needs Debian's capnproto).

    python3 tests/fuzz/make_corpus.py

Writes tests/fuzz/corpus/TARGET/seed-*, seed-ok-* where all of it must be accepted; findings stand beside them under names of
their own and stay.
"""
import json
import pathlib
import struct
import subprocess

HERE = pathlib.Path(__file__).parent
FIXTURES = HERE.parent / "fixtures"


def seeds(target, *inputs, ok=()):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("seed-*"):
        old.unlink()
    for number, data in enumerate(inputs):
        if not isinstance(data, (str, bytes)):
            data = json.dumps(data, ensure_ascii=False)
        (folder / f"seed-{'ok-' if number in ok else ''}{number:02}").write_bytes(data.encode() if isinstance(data, str) else data)


def http():
    seeds("http_framing",
          "GET /health HTTP/1.1\r\nHost: x\r\n\r\nPOST / HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}",
          "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0a ; n=v\r\n0123456789\r\n0\r\n\r\n",
          # What the guard is there for.
          "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
          "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
          "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
          "POST / HTTP/1.1\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\n{}",
          "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
          "POST / HTTP/1.1\nContent-Length : 2\n folded: x\n\n{}")
    sampling = {"temperature": 0.5, "top_p": 0.9, "top_k": 4, "min_p": 0.1, "max_tokens": 8, "stop": ["\n", "x"], "seed": 7,
                "repetition_penalty": 1.1, "ignore_eos": True}
    chat = {"messages": [{"role": "system", "content": "Be short."},
                         {"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}
    seeds("http_body",
          {"model": "m", "prompt": ["a", [1, 2]], "n": 2, "stream": True, "stream_options": {"include_usage": True},
           "logprobs": 2, "echo": False, **sampling},
          {**chat, "logprobs": True, "top_logprobs": 3, "max_completion_tokens": 4, "tools": None},
          {"prompt": [1, 2, 3], "best_of": 1, "presence_penalty": 0, "logit_bias": None, "suffix": None})
    part = '--b\r\nContent-Disposition: form-data; name='
    purpose = part + '"purpose"\r\n\r\nbatch\r\n'
    seeds("file_upload",
          f'multipart/form-data; boundary=b\n{purpose}{part}"file"; filename="in.jsonl"\r\nContent-Type: text/plain\r\n\r\n'
          '{"custom_id": "a"}\n \r\n{}\r\n--b--\r\n',
          f'Multipart/Form-Data; charset=x; boundary="b"\npreamble\r\n{part}file; filename="a\\"; name=b"\r\n\r\n\r\n--\r\n'
          f'--xb\r\n{purpose}--b--epilogue',
          # A part's header as long as one may be.
          f'multipart/form-data; boundary=b\n{purpose}{part}"file"\r\nx: '.ljust(4193, "x") + "\r\n\r\nx\r\n--b--")
    seeds("batch_line",
          {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "The library", **sampling}},
          {"custom_id": "b", "method": "POST", "url": "/v1/chat/completions", "body": {**chat, "logprobs": True}},
          {"custom_id": "c", "prompt": [[1, 2, 4095]], "logprobs": 2})
    seeds("job_output",
          '{"id": "batch_req_1", "custom_id": "a", "response": {"status_code": 200}, "error": null}\n'
          '{"id": "batch_req_2", "custom_id": "line-2", "response": null, "error": {"code": "invalid_json", "line": 2}}\n{"id"')
    seeds("address_files", "# replicas\nunix:/tmp/a\n[::1]:7532 # here\nhost-b:1\n", "sk-0123456789\n\n# old\nsk-abcdefgh\n")


def encoded(kind, number, text):
    out = subprocess.run(["capnp", "encode", HERE.parent.parent / "cluster" / "pleat.capnp", kind], input=text.encode(),
                         capture_output=True, check=True)
    return bytes([number]) + out.stdout


def rpc():
    sampling = 'sampling = (temperature = 0.5, topK = 4, seed = 7, maxTokens = 8, stop = ["x", "yz"], logprobs = 2)'
    seeds("rpc_message",
          encoded("GenerateRequest", 0, f'(prompt = (text = "The library"), {sampling}, written = [5, 6])'),
          encoded("GenerateRequest", 0, '(prompt = (messages = [(role = "user", content = "Hi")]))'),
          encoded("GenerateRequest", 0, "(prompt = (tokens = [1, 2, 4095]), priority = -3)"),
          encoded("ScoreRequest", 1, '(context = (text = "The"), continuations = [(text = " a"), (tokens = [3, 4])])'),
          encoded("Completion", 2, '(tokens = [1, 2], text = "ab", promptTokens = 3, finishReason = stop, '
                                   'logprobs = [(token = 1, logprob = -0.5, best = [(token = 2, logprob = -1)])])'),
          encoded("Error", 3, '(kind = overloaded, code = queueFull, message = "full", retryAfterMs = 5)'), ok=range(5))


def short(tokenizer):
    """With a vocabulary of a few tokens, and the merges that are left possible."""
    model = tokenizer["model"]
    keep = set("aceht '42\nĠ▁") | {"th", "he", "the", "Ġt", "▁t", "ca", "<unk>", "<0x20>", "<0x41>", "<0xFF>"}
    added = {token["content"] for token in tokenizer["added_tokens"]}
    if model["type"] == "Unigram":
        model["vocab"] = [v for i, v in enumerate(model["vocab"]) if i == model["unk_id"] or v[0] in keep | added]
        model["unk_id"] = next((i for i, v in enumerate(model["vocab"]) if v[0] == "<unk>"), 0)
        ids = {v[0]: i for i, v in enumerate(model["vocab"])}
    else:
        ids = {text: i for i, text in enumerate(t for t in model["vocab"] if t in keep | added)}
        model["vocab"] = ids
        pairs = [m if isinstance(m, list) else m.split(" ") for m in model["merges"]]
        model["merges"] = [p for p in pairs if all(t in ids for t in (*p, "".join(p)))]
    top = len(ids)
    for token in tokenizer["added_tokens"]:
        if token["content"] not in ids:
            ids_of = top
            top += 1
        else:
            ids_of = ids[token["content"]]
        token["id"] = ids_of
    by_text = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    processor = tokenizer.get("post_processor") or {}
    for text, special in (processor.get("special_tokens") or {}).items():
        special["ids"] = [by_text.get(text, 0)]
    return tokenizer


def tokenizers():
    names = ["gpt2", "llama-2", "llama-3", "gemma", "bloom", "other-parts", "roberta-frame", "unigram-bytes"]
    seeds("tokenizer_json",
          *[short(json.loads((FIXTURES / "tokenizers" / f"{name}.json").read_text())["tokenizer"]) for name in names],
          ok=(1, 3, 7))


def safetensors_file(header, tensor_bytes):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(tensor_bytes)


def checkpoints():
    one = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    two = {"dtype": "BF16", "shape": [2], "data_offsets": [24, 28]}
    lines = {"lines": True, "fold_format": "int8"}
    fold = {"version": 3, "reduction": 0.5,
            "layers": [{"selection": "range", "predictor_bits": 2, **lines}, {"selection": "static", "neurons": 3, "lines": False},
                       {"selection": "prompt", "share": 0.5, **lines}, {"selection": "all", "cuts_inputs": True}]}
    quantised = {"version": 1, "tensors": {"a": "int4", "b": "planes2"}}
    seeds("safetensors",
          safetensors_file({"__metadata__": {"format": "pt"}, "a": one, "b": two}, 28),
          safetensors_file({"__metadata__": {"fold": json.dumps(fold), "quantised": json.dumps(quantised)}}, 0),
          ok=(1,))
    seeds("config_json",
          *[json.loads((FIXTURES / "families" / name / "config.json").read_text())
            for name in ["bloom", "falcon-7b", "gemma3", "gpt2", "llama-3.1", "llama-yarn", "opt", "phi", "qwen2", "starcoder2"]],
          ok=range(10))


def beside():
    """What stands beside a model's weights and tokenizer."""
    files = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    seeds("safetensors_index", {"metadata": {"total_size": 48}, "weight_map": files}, {"weight_map": {**files, "c": "model-1.safetensors"}},
          {"weight_map": {"a": "../model-1.safetensors"}}, {"weight_map": {"a": 5}}, ok=(0,))
    seeds("tokenizer_config", {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}, "add_bos_token": True,
                               "chat_template": "{{ bos_token }}{{ messages[0].content }}"},
          {"eos_token": None, "chat_template": [{"name": "default", "template": "x"}, {"name": "tool_use", "template": "y"}]},
          {"bos_token": "none", "add_eos_token": True}, ok=(0, 1))
    measured = {"recipe": {"selection": "all", "up": "int4", "down": "int4"}, "read": [1, 2, 3], "stored": 4, "kl": 0.1}
    chosen = {**measured, "recipe": {"selection": "range", "exact": 0.1, "lines": True, "predictor_bits": 2, "fold_format": "int8",
                                     "up": "int4", "down": "bf16"}, "kl": 0.01}
    seeds("search_options", {"dense": 65536, "layers": [[measured, chosen], [measured]]}, {"dense": 98304, "layers": [[measured], [measured]]},
          {"layers": []}, {"dense": 65536, "layers": [[], []]})


def folded_tensors():
    seeds("folded_tensors", b"", bytes([0, 1, 0, 0x39]), bytes([200, 3, 0, 0x30, 17, 9, 0, 0x5d]), bytes([0, 0, 1, 0xff] * 3), ok=(0,))


def gguf_value(value):
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + gguf_text(value)
    kind = gguf_value(value[0])[:4]
    return struct.pack("<I", 9) + kind + struct.pack("<Q", len(value)) + b"".join(gguf_value(v)[4:] for v in value)


def gguf_text(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf_file(metadata, tensors):
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        out += gguf_text(key) + gguf_value(value)
    data = b""
    for name, shape, kind, size in tensors:
        out += gguf_text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *reversed(shape))
        out += struct.pack("<IQ", kind, len(data))
        data += bytes(-(-size // 32) * 32)
    return out + bytes(-len(out) % 32) + data


def ggufs():
    llama = {"general.architecture": "llama", "llama.context_length": 64, "llama.embedding_length": 32, "llama.block_count": 1,
             "llama.feed_forward_length": 32, "llama.attention.head_count": 2, "llama.attention.head_count_kv": 1,
             "llama.rope.dimension_count": 16, "llama.rope.freq_base": 10000.0,
             "llama.attention.layer_norm_rms_epsilon": 1e-5, "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm",
             "tokenizer.ggml.tokens": ["<|endoftext|>", "t", "h", "Ġ", "e", "th"],
             "tokenizer.ggml.token_type": [3, 1, 1, 1, 1, 1], "tokenizer.ggml.merges": ["t h"],
             "tokenizer.ggml.eos_token_id": 0, "tokenizer.chat_template": "{{ messages[0]['content'] }}"}
    sentencepiece = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["<unk>", "<s>", "<0x41>", "▁t"],
                     "tokenizer.ggml.scores": [0.0, 0.0, 0.0, -1.5], "tokenizer.ggml.token_type": [2, 3, 6, 1],
                     "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.add_space_prefix": True}
    names = [("token_embd.weight", [6, 32], 0, 768), ("blk.0.attn_q.weight", [32, 32], 1, 2048),
             ("blk.0.ffn_up.weight", [32, 32], 8, 1088), ("output_norm.weight", [32], 0, 128), ("blk.0.attn_q.bias", [32], 0, 128)]
    gpt2 = {"general.architecture": "gpt2", "general.alignment": 64, "gpt2.context_length": 64, "gpt2.embedding_length": 8,
            "gpt2.block_count": 1, "gpt2.feed_forward_length": 32, "gpt2.attention.head_count": 2,
            "gpt2.attention.layer_norm_epsilon": 1e-5, **sentencepiece}
    seeds("gguf", gguf_file(llama, names), gguf_file(gpt2, [("token_embd.weight", [4, 8], 0, 128)]), ok=(1,))


def templates():
    chat = json.loads((FIXTURES / "chat.json").read_text())["templates"]
    texts = sorted({t[0] for t in chat if len(t[0]) < 900}, key=len)
    seeds("chat_template", *texts[-4:],
          "{%- set ns = namespace(n=0, l=[]) -%}{% for k, v in {'a': 1}.items() %}{{ loop.index0 ~ k|upper }}{% endfor %}"
          "{% macro f(x, y=2) %}{{ (x + y) // 2 ** 1 % 3 }}{% endmacro %}{{ f(1) }}"
          "{{ messages[-1].tool_calls | tojson(indent=2) }}{{ 'a b'.split()[::-1] | join(', ') }}"
          "{% if tools is defined and not none is string %}{{ messages | map(attribute='role') | list }}{% endif %}",
          "{# c #}{{ range(3)|length }}{{ 'x' if x is not defined else y|default('z', true) }}{{ messages | selectattr('role', 'equalto', "
          "'user') | list | first }}{% set a, b = [1, 2.5] %}{{ a < b <= 3 and 'q' in 'qr' }}{{ raise_exception('no') }}",
          "{% raw -%} {{ x }} {%- endraw +%}\n{% for m in messages %}{{ loop.cycle('a', 2) }}{{ '%-5s|%+05.1f|%#x' % (m.role, 1, 2) }}"
          "{{ '%(role).3r' % m }}{{ '%*d'|format(-4, loop.index) }}{% endfor %}{{ [1, 2.25]|sum|round(1, 'ceil') }}"
          "{{ range(5)|batch(2, 0)|map('max')|list }}{{ 'a b'|center(9)|wordcount }}")


def recipes():
    layer = {"selection": "range", "exact": 0.1, "lines": True, "predictor_bits": 2, "fold_format": "int8", "up": "int4",
             "down": "bf16"}
    gated = {"selection": "gate", "exact": 0.3, "gate": "int4", "up": "planes3", "down": "int8"}
    seeds("recipe_json", {"layers": [layer, {"selection": "all", "up": "int3", "down": "int4"}]}, {"layers": [gated, gated]})


if __name__ == "__main__":
    for make in (http, rpc, tokenizers, checkpoints, beside, folded_tensors, ggufs, templates, recipes):
        make()
    for folder in sorted((HERE / "corpus").iterdir()):
        files = list(folder.iterdir())
        print(f"{folder.name}: {len(files)} files, {sum(f.stat().st_size for f in files)} bytes")
