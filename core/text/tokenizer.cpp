#include "core/text/tokenizer.h"

#include <unordered_map>

#include "core/checkpoint/tokenizer_files.h"
#include "core/text/added_tokens.h"
#include "core/text/decoder.h"
#include "core/text/normalizer.h"
#include "core/text/pretokenizer.h"
#include "core/text/special_frame.h"
#include "core/text/token_model.h"
#include "kernels/check.h"

namespace pleat {
namespace {

const nlohmann::json& part(const nlohmann::json& tokenizer, const char* key) {
  static const nlohmann::json nothing;
  const auto found = tokenizer.find(key);
  return found == tokenizer.end() ? nothing : *found;
}

std::vector<AddedToken> those(const std::vector<AddedToken>& tokens, bool normalized) {
  std::vector<AddedToken> chosen;
  for (const AddedToken& token : tokens) {
    if (token.normalized == normalized) chosen.push_back(token);
  }
  return chosen;
}

}  // namespace

struct Tokenizer::State {
  struct Piece {
    std::string bytes;
    bool exists = false;
    bool special = false;
  };

  std::unique_ptr<Normalizer> normalizer;
  std::unique_ptr<PreTokenizer> pretokenizer;
  std::unique_ptr<TokenModel> model;
  Decoder decoder;
  SpecialFrame frame;
  std::vector<AddedToken> added;
  AddedTokenFinder raw_finder, normalized_finder;
  std::vector<Piece> pieces;  // by id
  std::optional<int32_t> bos, eos;

  State(const nlohmann::json& tokenizer, const nlohmann::json& config)
      : normalizer(make_normalizer(part(tokenizer, "normalizer"))),
        pretokenizer(make_pretokenizer(part(tokenizer, "pre_tokenizer"))),
        model(make_token_model(part(tokenizer, "model"), is_byte_level(part(tokenizer, "pre_tokenizer")))),
        decoder(part(tokenizer, "decoder")),
        frame(read_special_frame(part(tokenizer, "post_processor"))),
        added(read_added_tokens(part(tokenizer, "added_tokens"))),
        raw_finder(those(added, false)),
        normalized_finder(normalized(those(added, true))) {
    for (const auto& [entry, id] : model->vocabulary()) set_piece(id, entry, {decoder.bytes_of(entry), true, false});
    for (const AddedToken& token : added) add_piece(token);
    bos = named_token(config, "bos_token");
    eos = named_token(config, "eos_token");
    follow_flag(config, "add_bos_token", bos, frame.before);
    follow_flag(config, "add_eos_token", eos, frame.after);
    for (const std::vector<int32_t>* const around : {&frame.before, &frame.after})
      for (const int32_t id : *around)
        PLEAT_REQUIRE(id >= 0 && size_t(id) < pieces.size() && pieces[size_t(id)].exists,
                      "the post-processor puts token ", id, " around a text, which the vocabulary does not have");
  }

  // Tokens that are looked for in normalized text are normalized themselves.
  std::vector<AddedToken> normalized(std::vector<AddedToken> tokens) const {
    for (AddedToken& token : tokens)
      if (normalizer) token.content = normalizer->apply(token.content);
    return tokens;
  }

  // tokenizer_config.json's word on the begin and end tokens goes before the post-processor's.
  static void follow_flag(const nlohmann::json& config, const char* key, std::optional<int32_t> token,
                          std::vector<int32_t>& tokens) {
    if (!token || !config.is_object() || !config.contains(key) || !config[key].is_boolean()) return;
    std::erase(tokens, *token);
    if (config[key].get<bool>()) tokens.insert(tokens.begin(), *token);
  }

  void set_piece(int32_t id, const std::string& entry, Piece piece) {
    if (pieces.size() <= size_t(id)) pieces.resize(size_t(id) + 1);
    PLEAT_REQUIRE(!pieces[size_t(id)].exists, "tokenizer.json: token '", entry, "' has the id ", id,
                  ", which another token has too");
    pieces[size_t(id)] = std::move(piece);
  }

  // An added token may stand in the vocabulary too, under the same id.
  void add_piece(const AddedToken& token) {
    const auto entry = model->vocabulary().find(token.content);
    if (entry != model->vocabulary().end()) {
      PLEAT_REQUIRE(entry->second == token.id, "tokenizer.json: added token '", token.content, "' has the id ",
                    token.id, ", the vocabulary gives it ", entry->second);
      pieces[size_t(token.id)] = {};
    }
    set_piece(token.id, token.content, {decoder.added_bytes_of(token.content), true, token.special});
  }

  // tokenizer_config.json writes a token as its text or as an object with "content".
  std::optional<int32_t> named_token(const nlohmann::json& config, const char* key) const {
    if (!config.is_object() || part(config, key).is_null()) return std::nullopt;
    const auto& value = part(config, key);
    const auto& content = value.is_object() ? part(value, "content") : value;
    PLEAT_REQUIRE(content.is_string(), "tokenizer_config.json: ", key, " is not a token");
    for (const AddedToken& token : added) {
      if (token.content == content) return token.id;
    }
    const auto found = model->vocabulary().find(content.get<std::string>());
    PLEAT_REQUIRE(found != model->vocabulary().end(), "tokenizer_config.json: ", key, " is ", content.dump(),
                  ", which tokenizer.json does not have");
    return found->second;
  }

  const Piece* find(int32_t id) const {
    if (id < 0 || size_t(id) >= pieces.size() || !pieces[size_t(id)].exists) return nullptr;
    return &pieces[size_t(id)];
  }
};

Tokenizer Tokenizer::open(const std::filesystem::path& model) {
  const TokenizerFiles files = read_tokenizer_files(model);
  return with_context(concat(model), [&] { return from_json(files.tokenizer, files.config); });
}

Tokenizer Tokenizer::from_json(const nlohmann::json& tokenizer, const nlohmann::json& config) {
  PLEAT_REQUIRE(tokenizer.is_object(), "tokenizer.json is no JSON object");
  try {
    return Tokenizer(std::make_shared<const State>(tokenizer, config));
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorKind::invalid, concat("tokenizer.json has a value of the wrong type: ", error.what()));
  }
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  TokenModel::Scratch scratch;
  bool at_start = true;
  const auto add_id = [&](int32_t id) {
    ids.push_back(id);
    at_start = false;
  };
  const auto add_word = [&](std::string_view word) { state_->model->encode(word, scratch, ids); };
  const auto add_words = [&](std::string_view piece) {
    state_->pretokenizer ? state_->pretokenizer->split(piece, at_start, add_word) : add_word(piece);
    at_start = false;
  };
  const auto find_normalized = [&](std::string_view piece) {
    if (!state_->normalizer) return state_->normalized_finder.split(piece, add_words, add_id);
    state_->normalized_finder.split(state_->normalizer->apply(piece), add_words, add_id);
  };
  state_->raw_finder.split(text, find_normalized, add_id);
  return ids;
}

std::vector<int32_t> Tokenizer::encode_with_special(std::string_view text) const {
  std::vector<int32_t> ids = encode(text);
  const SpecialFrame& frame = state_->frame;
  ids.insert(ids.begin(), frame.before.begin(), frame.before.end());
  ids.insert(ids.end(), frame.after.begin(), frame.after.end());
  return ids;
}

const std::vector<int32_t>& Tokenizer::leading_special() const { return state_->frame.before; }

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string text = continuation(ids, skip_special);
  int dropped = 0;
  while (dropped < state_->decoder.leading_spaces() && text.size() > size_t(dropped) && text[size_t(dropped)] == ' ')
    ++dropped;
  return text.substr(size_t(dropped));
}

std::string Tokenizer::continuation(std::span<const int32_t> ids, bool skip_special) const {
  std::string text;
  for (const int32_t id : ids) {
    const State::Piece* piece = state_->find(id);
    if (piece && !(skip_special && piece->special)) text += piece->bytes;
  }
  return text;
}

std::string Tokenizer::piece(int32_t id) const {
  const State::Piece* piece = state_->find(id);
  return piece ? piece->bytes : std::string();
}

int32_t Tokenizer::vocab_size() const { return int32_t(state_->pieces.size()); }
std::optional<int32_t> Tokenizer::eos() const { return state_->eos; }
std::optional<int32_t> Tokenizer::bos() const { return state_->bos; }

bool Tokenizer::is_special(int32_t id) const {
  const State::Piece* piece = state_->find(id);
  return piece && piece->special;
}

}  // namespace pleat
