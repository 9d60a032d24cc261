"""The same weights for every engine, made once under a folder: prepare() says what is where. For compare.py."""
import copy
import os
import shutil
import subprocess
import sys

if __name__ == "__main__":
    print(__doc__)
    sys.exit()

import gguf
import llama_cpp as llama
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

GGUF_TYPES = {"bf16": llama.LLAMA_FTYPE_MOSTLY_BF16, "f16": llama.LLAMA_FTYPE_MOSTLY_F16,
              "f32": llama.LLAMA_FTYPE_ALL_F32, "int8": llama.LLAMA_FTYPE_MOSTLY_Q8_0,
              "int4": llama.LLAMA_FTYPE_MOSTLY_Q4_0}


def once(path, make):
    """Makes a file or folder unless it is there; what is half made has another name."""
    if not os.path.exists(path):
        print(f"  making {path}", file=sys.stderr, flush=True)
        shutil.rmtree(path + ".part", ignore_errors=True)
        make(path + ".part")
        os.rename(path + ".part", path)
    return path


def shape_folder(shape, layers):
    """A GPT-2 of random weights with a tokenizer of bytes, filled up with words that no text has."""

    def make(out):
        torch.manual_seed(1)
        ids = dict.fromkeys(("bos_token_id", "eos_token_id"), shape["vocab_size"] - 1)
        GPT2LMHeadModel(GPT2Config(n_layer=layers, **ids, **shape)).to(torch.bfloat16).save_pretrained(out)
        words = sorted(pre_tokenizers.ByteLevel.alphabet())
        words += [f"<filler {i}>" for i in range(shape["vocab_size"] - len(words))]
        tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, []))
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), words[-1])
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(out)

    return make


def folder_of(model):
    """A GGUF file's weights as a Hugging Face folder in bf16."""

    def make(out):
        where, file = (os.path.split(model)[0], {"gguf_file": os.path.basename(model)})
        quantised = AutoModelForCausalLM.from_pretrained(where, dtype=torch.bfloat16, **file)
        config = copy.deepcopy(quantised.config)
        config.__dict__.pop("quantization_config", None)  # its weights are numbers by now, but are not saved as such
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        plain.load_state_dict(quantised.state_dict())
        plain.save_pretrained(out)
        AutoTokenizer.from_pretrained(where, **file).save_pretrained(out)

    return make


def gguf_of_gpt2(folder):
    """f32, written tensor by tensor; GGUF's matrices are [outputs, inputs], GPT-2's Conv1D's [inputs, outputs]."""

    def make(out):
        model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
        config, names = model.config, {"ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
                                       "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}
        writer = gguf.GGUFWriter(out, "gpt2")
        writer.add_block_count(config.n_layer)
        writer.add_context_length(config.n_positions)
        writer.add_embedding_length(config.n_embd)
        writer.add_feed_forward_length(4 * config.n_embd)
        writer.add_head_count(config.n_head)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        writer.add_file_type(GGUF_TYPES["f32"])
        writer.add_tokenizer_model("no_vocab")
        writer.add_vocab_size(config.vocab_size)
        state = model.transformer.state_dict()
        tensors = {"token_embd.weight": state["wte.weight"], "position_embd.weight": state["wpe.weight"],
                   "output_norm.weight": state["ln_f.weight"], "output_norm.bias": state["ln_f.bias"],
                   "output.weight": state["wte.weight"]}
        for layer in range(config.n_layer):
            for theirs, name in names.items():
                for part in ("weight", "bias"):
                    value = state[f"h.{layer}.{theirs}.{part}"]
                    tensors[f"blk.{layer}.{name}.{part}"] = value.T if value.ndim == 2 else value
        for name, value in tensors.items():
            writer.add_tensor(name, value.contiguous().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    return make


def requantised(source, format):
    def make(out):
        options = llama.llama_model_quantize_default_params()
        options.ftype, options.allow_requantize, options.pure, options.nthread = GGUF_TYPES[format], True, True, 2
        if llama.llama_model_quantize(source.encode(), out.encode(), options) != 0:
            raise RuntimeError(f"llama.cpp does not quantise {source}")

    return make


def command(*words):
    def make(out):
        subprocess.run([*words, out], check=True, stdout=subprocess.DEVNULL)

    return make


def prepare(root, pleat, model, shape, layers, wanted):
    """{(engine, format): path} of the wanted pairs ("pleat", "transformers", "ctranslate2", "llama.cpp"), under `root`."""
    os.makedirs(root, exist_ok=True)
    at = lambda name: os.path.join(root, name)
    if shape:
        folder = once(at("folder"), shape_folder(shape, layers))
        source = once(at("f32.gguf"), gguf_of_gpt2(folder))
    else:
        folder = once(at("folder"), folder_of(os.path.abspath(model)))
        source = model
    quantize = [pleat, "quantize", "--model", folder, "--quiet"]
    convert = [os.path.join(os.path.dirname(sys.executable), "ct2-transformers-converter"), "--model", folder]

    def pleats(format):
        low_bit = command(*quantize, "--format", format, "--head", format, "--out")
        return folder if format in ("bf16", "f32") else once(at(f"pleat-{format}"), low_bit)

    makes = {"pleat": pleats,
             "transformers": lambda _: folder,
             "ctranslate2": lambda format: once(at(f"ct2-{format}"), command(
                 *convert, "--quantization", {"f32": "float32"}.get(format, format), "--output_dir")),
             "llama.cpp": lambda format: once(at(f"{format}-pure.gguf"), requantised(source, format))}
    return {(engine, format): makes[engine](format) for engine, format in wanted}
