#pragma once
// Text to token ids and back, as a Hugging Face tokenizer.json describes it. What the file asks for and Pleat does not
// know is refused when it is opened, with one sentence naming it.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace pleat {

// Immutable after opening; copies share it; safe to use from several threads.
class Tokenizer {
 public:
  // A model folder's tokenizer.json, and tokenizer_config.json (if there) for the names of the begin and end tokens; or
  // those of a GGUF file.
  static Tokenizer open(const std::filesystem::path& model);
  // The same from parsed files; `config` may be null or empty.
  static Tokenizer from_json(const nlohmann::json& tokenizer, const nlohmann::json& config);

  // Added and special tokens in the text are recognised, none are put in front or behind. Any byte string is accepted:
  // with a complete byte alphabet decode(encode(text), false) == text; bytes that the vocabulary lacks are dropped, as
  // Hugging Face does it.
  std::vector<int32_t> encode(std::string_view text) const;
  // With the special tokens around it that the model expects of a whole text (Llama's <s> in front).
  std::vector<int32_t> encode_with_special(std::string_view text) const;
  // Those in front of it.
  const std::vector<int32_t>& leading_special() const;
  // Bytes: cut inside a UTF-8 sequence only where the ids are.
  std::string decode(std::span<const int32_t> ids, bool skip_special = true) const;
  // The same where text goes before: a space that some tokenizers put at the beginning of every text stays.
  std::string continuation(std::span<const int32_t> ids, bool skip_special = true) const;
  // The bytes of one token; none of an id that it lacks: a model may have more than its tokenizer.
  std::string piece(int32_t id) const;

  int32_t vocab_size() const;  // the largest id, plus one
  std::optional<int32_t> eos() const;
  std::optional<int32_t> bos() const;
  bool is_special(int32_t id) const;

 private:
  struct State;
  explicit Tokenizer(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

// Turns the ids that continue a text into text as they come, holding back the bytes of an incomplete UTF-8 sequence.
// Special tokens give no text.
class StreamingDecoder {
 public:
  explicit StreamingDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  // What became complete; bytes that can never become valid come out as U+FFFD, so all output is valid UTF-8.
  std::string push(int32_t id);
  // The end: a broken tail becomes U+FFFD.
  std::string flush();

 private:
  Tokenizer tokenizer_;
  std::string held_;
};

}  // namespace pleat
