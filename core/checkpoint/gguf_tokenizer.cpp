// tokenizer.json from GGUF's metadata.
#include <algorithm>
#include <unordered_map>

#include "core/checkpoint/gguf_model.h"
#include "kernels/check.h"

namespace pleat {
namespace {

using nlohmann::json;

const json& array_of(const GgufFile& gguf, const std::string& key) {
  const auto found = gguf.metadata.find("tokenizer.ggml." + key);
  PLEAT_REQUIRE(found != gguf.metadata.end() && found->is_array(), "the GGUF file has no list tokenizer.ggml.", key);
  return *found;
}

template <class T>
T value_or(const GgufFile& gguf, const std::string& key, T fallback) {
  const auto found = gguf.metadata.find("tokenizer." + key);
  if (found == gguf.metadata.end()) return fallback;
  try {
    return found->get<T>();
  } catch (const json::exception&) {
    throw Error(ErrorKind::invalid, concat("the GGUF file's tokenizer.", key, " is of the wrong type"));
  }
}

std::vector<std::string> texts_of(const GgufFile& gguf, const std::string& key) {
  std::vector<std::string> texts;
  for (const json& text : array_of(gguf, key)) {
    PLEAT_REQUIRE(text.is_string(), "the GGUF file's tokenizer.ggml.", key, " is not a list of texts");
    texts.push_back(text.get<std::string>());
  }
  return texts;
}

enum TokenType { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

std::vector<int> types_of(const GgufFile& gguf, size_t tokens) {
  std::vector<int> types(tokens, normal);
  if (!gguf.metadata.contains("tokenizer.ggml.token_type")) return types;
  const json& stored = array_of(gguf, "token_type");
  PLEAT_REQUIRE(stored.size() == tokens, "the GGUF file has ", tokens, " tokens and ", stored.size(), " token types");
  for (size_t i = 0; i < tokens; ++i) types[i] = stored[i].is_number_integer() ? stored[i].get<int>() : normal;
  return types;
}

json split(const char* pattern, const char* behaviour) {
  return {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", behaviour}, {"invert", false}};
}

json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

json sequence(json parts) { return {{"type", "Sequence"}, {"pretokenizers", std::move(parts)}}; }

// The pre-tokenizers that tokenizer.ggml.pre names, as the models' own tokenizer.json files have them.
json pre_tokenizer(const std::string& name) {
  constexpr const char* kLlama3 =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  constexpr const char* kQwen2 =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const auto is_one_of = [&](std::initializer_list<const char*> names) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (is_one_of({"gpt-2", "phi-2", "default", "olmo", "jais"})) return byte_level(true);
  if (is_one_of({"smollm", "starcoder", "refact", "command-r", "codeshell"}))
    return sequence({{{"type", "Digits"}, {"individual_digits", true}}, byte_level(true)});
  if (is_one_of({"llama-bpe", "llama3", "llama-v3"})) return sequence({split(kLlama3, "Isolated"), byte_level(false)});
  if (is_one_of({"qwen2", "deepseek-r1-qwen"})) return sequence({split(kQwen2, "Isolated"), byte_level(false)});
  if (name == "falcon")
    return sequence({{{"type", "Punctuation"}, {"behavior", "Contiguous"}},
                     byte_level(true),
                     {{"type", "Digits"}, {"individual_digits", false}},
                     split("[0-9][0-9][0-9]", "Isolated")});
  throw Error(ErrorKind::unimplemented,
              concat("the GGUF file asks for the unknown pre-tokenizer '", name,
                     "'; known: gpt-2, phi-2, default, olmo, jais, smollm, starcoder, refact, command-r, codeshell, "
                     "llama-bpe, qwen2, deepseek-r1-qwen, falcon"));
}

json vocabulary(const std::vector<std::string>& tokens) {
  json vocab = json::object();
  for (size_t id = 0; id < tokens.size(); ++id) vocab[tokens[id]] = id;
  return vocab;
}

json added_tokens(const std::vector<std::string>& tokens, const std::vector<int>& types) {
  json added = json::array();
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (types[id] != control && types[id] != user_defined && types[id] != unknown) continue;
    added.push_back({{"id", id},
                     {"content", tokens[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", types[id] != user_defined}});
  }
  return added;
}

// SentencePiece keeps no merge list: a piece is merged from any two pieces that make it up, the likeliest piece first.
// Ties as Hugging Face's converter orders them: longer left parts first, then longer right ones.
json merges_from_scores(const std::vector<std::string>& tokens, const std::vector<float>& scores,
                        const std::vector<int>& types) {
  std::unordered_map<std::string_view, int32_t> ids;
  for (size_t id = 0; id < tokens.size(); ++id)
    if (types[id] == normal || types[id] == user_defined) ids.emplace(tokens[id], int32_t(id));
  struct Merge {
    float score;
    int32_t piece, left, right;
    size_t left_length, right_length;
  };
  const auto characters = [](std::string_view text) {
    return size_t(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
  };
  std::vector<Merge> merges;
  for (const auto& [text, id] : ids) {
    const size_t longest = 256;  // no vocabulary has longer pieces
    for (size_t cut = 1; cut < std::min(text.size(), longest); ++cut) {
      if ((text[cut] & 0xc0) == 0x80) continue;
      const auto left = ids.find(text.substr(0, cut)), right = ids.find(text.substr(cut));
      if (left == ids.end() || right == ids.end()) continue;
      merges.push_back(
          {scores[size_t(id)], id, left->second, right->second, characters(left->first), characters(right->first)});
    }
  }
  std::sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    return std::tuple(-a.score, -int64_t(a.left_length), -int64_t(a.right_length), a.piece, a.left, a.right) <
           std::tuple(-b.score, -int64_t(b.left_length), -int64_t(b.right_length), b.piece, b.left, b.right);
  });
  json out = json::array();
  for (const Merge& merge : merges) out.push_back({tokens[size_t(merge.left)], tokens[size_t(merge.right)]});
  return out;
}

// Llama 3's tokenizer takes what is one token whole, and begins texts with <|begin_of_text|>: files need not say so.
bool is_llama3(const GgufFile& gguf) {
  const std::string pre = value_or<std::string>(gguf, "ggml.pre", "");
  return pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3";
}

// GPT-2's own where files of its family do not say; those of other families had better not be guessed.
std::string pre_tokenizer_name(const GgufFile& gguf) {
  const std::string name = value_or<std::string>(gguf, "ggml.pre", "default");
  const json architecture = gguf.metadata.value("general.architecture", json());
  PLEAT_REQUIRE(name != "default" || architecture == "gpt2" || architecture == "phi2",
                "the GGUF file's tokenizer.ggml.pre does not say how the text of the architecture ",
                architecture.dump(), " is cut into words");
  return name;
}

json byte_level_tokenizer(const GgufFile& gguf, const std::vector<std::string>& tokens, const std::vector<int>& types) {
  const std::string pre = pre_tokenizer_name(gguf);
  return {{"added_tokens", added_tokens(tokens, types)},
          {"normalizer", pre == "qwen2" ? json{{"type", "NFC"}} : json()},
          {"pre_tokenizer", pre_tokenizer(pre)},
          {"post_processor", nullptr},
          {"decoder", byte_level(true)},
          {"model",
           {{"type", "BPE"},
            {"ignore_merges", is_llama3(gguf)},
            {"vocab", vocabulary(tokens)},
            {"merges", array_of(gguf, "merges")}}}};
}

json sentence_piece_tokenizer(const GgufFile& gguf, const std::vector<std::string>& tokens,
                              const std::vector<int>& types) {
  constexpr const char* kSpace = "\u2581";
  std::vector<float> scores;
  for (const json& score : array_of(gguf, "scores")) scores.push_back(score.is_number() ? score.get<float>() : 0);
  PLEAT_REQUIRE(scores.size() == tokens.size(), "the GGUF file has ", tokens.size(), " tokens and ", scores.size(),
                " scores");
  const auto unknown_token = std::find(types.begin(), types.end(), unknown);
  const bool prefix = value_or(gguf, "ggml.add_space_prefix", true);
  json normalizers = json::array();
  if (prefix) normalizers.push_back({{"type", "Prepend"}, {"prepend", kSpace}});
  normalizers.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpace}});
  json decoders = {{{"type", "Replace"}, {"pattern", {{"String", kSpace}}}, {"content", " "}},
                   {{"type", "ByteFallback"}},
                   {{"type", "Fuse"}}};
  if (prefix) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  json model = {{"type", "BPE"},
                {"byte_fallback", true},
                {"fuse_unk", true},
                {"vocab", vocabulary(tokens)},
                {"merges", merges_from_scores(tokens, scores, types)}};
  if (unknown_token != types.end()) model["unk_token"] = tokens[size_t(unknown_token - types.begin())];
  return {{"added_tokens", added_tokens(tokens, types)},
          {"normalizer", {{"type", "Sequence"}, {"normalizers", normalizers}}},
          {"pre_tokenizer", nullptr},
          {"post_processor", nullptr},
          {"decoder", {{"type", "Sequence"}, {"decoders", decoders}}},
          {"model", model}};
}

}  // namespace

nlohmann::json gguf_tokenizer(const GgufFile& gguf) {
  const std::string model = value_or<std::string>(gguf, "ggml.model", "");
  const std::vector<std::string> tokens = texts_of(gguf, "tokens");
  const std::vector<int> types = types_of(gguf, tokens.size());
  if (model == "gpt2") return byte_level_tokenizer(gguf, tokens, types);
  if (model == "llama") return sentence_piece_tokenizer(gguf, tokens, types);
  throw Error(ErrorKind::unimplemented,
              concat("the GGUF file has the unknown tokenizer model '", model, "'; known: gpt2, llama"));
}

nlohmann::json gguf_tokenizer_config(const GgufFile& gguf) {
  const std::vector<std::string> tokens = texts_of(gguf, "tokens");
  json config = json::object();
  for (const auto& [key, name] :
       {std::pair{"ggml.bos_token_id", "bos_token"}, std::pair{"ggml.eos_token_id", "eos_token"}}) {
    const int64_t id = value_or<int64_t>(gguf, key, -1);
    if (id >= 0 && id < int64_t(tokens.size())) config[name] = tokens[size_t(id)];
  }
  const bool sentence_piece = value_or<std::string>(gguf, "ggml.model", "") == "llama";
  config["add_bos_token"] = value_or(gguf, "ggml.add_bos_token", sentence_piece || is_llama3(gguf));
  config["add_eos_token"] = value_or(gguf, "ggml.add_eos_token", false);
  const std::string chat = value_or<std::string>(gguf, "chat_template", "");
  if (!chat.empty()) config["chat_template"] = chat;
  return config;
}

}  // namespace pleat
