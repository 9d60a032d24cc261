#include "core/text/tokenizer.h"

#include <unordered_map>

#include "core/checkpoint/tokenizer_files.h"
#include "core/text/added_tokens.h"
#include "core/text/bpe.h"
#include "core/text/byte_level.h"
#include "core/text/pretokenizer.h"
#include "kernels/check.h"

namespace pleat {
namespace {

const nlohmann::json& part(const nlohmann::json& tokenizer, const char* key) {
  static const nlohmann::json nothing;
  const auto found = tokenizer.find(key);
  return found == tokenizer.end() ? nothing : *found;
}

void refuse_normalizer(const nlohmann::json& normalizer) {
  if (normalizer.is_null()) return;
  const auto type = normalizer.is_object() ? part(normalizer, "type") : normalizer;
  throw Error(ErrorKind::unimplemented, concat("tokenizer.json asks for the unknown normalizer ", type));
}

void require_byte_level_decoder(const nlohmann::json& decoder) {
  PLEAT_REQUIRE(decoder.is_object() && decoder.contains("type"), "tokenizer.json has no decoder");
  if (decoder["type"] == "ByteLevel") return;
  throw Error(ErrorKind::unimplemented, concat("tokenizer.json asks for the unknown decoder ", decoder["type"]));
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

  Bpe bpe;
  std::unique_ptr<PreTokenizer> pretokenizer;
  std::vector<AddedToken> added;
  AddedTokenFinder raw_finder, normalized_finder;
  std::vector<Piece> pieces;  // by id
  std::optional<int32_t> bos, eos;

  State(const nlohmann::json& tokenizer, const nlohmann::json& config)
      : bpe(part(tokenizer, "model")),
        pretokenizer(make_pretokenizer(part(tokenizer, "pre_tokenizer"))),
        added(read_added_tokens(part(tokenizer, "added_tokens"))),
        raw_finder(those(added, false)),
        normalized_finder(those(added, true)) {
    refuse_normalizer(part(tokenizer, "normalizer"));
    require_byte_level_decoder(part(tokenizer, "decoder"));
    for (const auto& [entry, id] : bpe.vocabulary()) {
      set_piece(id, entry, {from_byte_level(entry).value_or(entry), true, false});
    }
    for (const AddedToken& token : added) add_piece(token);
    bos = named_token(config, "bos_token");
    eos = named_token(config, "eos_token");
  }

  void set_piece(int32_t id, const std::string& entry, Piece piece) {
    if (pieces.size() <= size_t(id)) pieces.resize(size_t(id) + 1);
    PLEAT_REQUIRE(!pieces[size_t(id)].exists, "tokenizer.json: token '", entry, "' has the id ", id,
                  ", which another token has too");
    pieces[size_t(id)] = std::move(piece);
  }

  // An added token may stand in the vocabulary too, under the same id.
  void add_piece(const AddedToken& token) {
    const auto entry = bpe.vocabulary().find(token.content);
    if (entry != bpe.vocabulary().end()) {
      PLEAT_REQUIRE(entry->second == token.id, "tokenizer.json: added token '", token.content, "' has the id ",
                    token.id, ", the vocabulary gives it ", entry->second);
      pieces[size_t(token.id)] = {};
    }
    set_piece(token.id, token.content, {token.content, true, token.special});
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
    const auto found = bpe.vocabulary().find(content.get<std::string>());
    PLEAT_REQUIRE(found != bpe.vocabulary().end(), "tokenizer_config.json: ", key, " is ", content,
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
  return Tokenizer(std::make_shared<const State>(tokenizer, config));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  Bpe::Scratch scratch;
  const auto add_id = [&](int32_t id) { ids.push_back(id); };
  const auto add_word = [&](std::string_view word) { state_->bpe.encode(word, scratch, ids); };
  const auto add_words = [&](std::string_view piece) { state_->pretokenizer->split(piece, add_word); };
  const auto find_normalized = [&](std::string_view piece) {
    state_->normalized_finder.split(piece, add_words, add_id);
  };
  state_->raw_finder.split(text, find_normalized, add_id);
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string text;
  for (const int32_t id : ids) {
    const State::Piece* piece = state_->find(id);
    if (piece && !(skip_special && piece->special)) text += piece->bytes;
  }
  return text;
}

std::string Tokenizer::piece(int32_t id) const {
  const State::Piece* piece = state_->find(id);
  PLEAT_REQUIRE(piece, "there is no token ", id);
  return piece->bytes;
}

int32_t Tokenizer::vocab_size() const { return int32_t(state_->pieces.size()); }
std::optional<int32_t> Tokenizer::eos() const { return state_->eos; }
std::optional<int32_t> Tokenizer::bos() const { return state_->bos; }

bool Tokenizer::is_special(int32_t id) const {
  const State::Piece* piece = state_->find(id);
  return piece && piece->special;
}

}  // namespace pleat
