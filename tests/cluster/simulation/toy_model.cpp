#include "tests/cluster/simulation/toy_model.h"

#include <algorithm>

#include "core/engine/sampler.h"
#include "tests/cluster/simulation/random.h"

namespace pleat::test {
namespace {

// One letter or two; the end has none.
std::string piece_of(int32_t token) {
  if (token == kToyEnd) return "";
  if (token <= 26) return {char('a' + token - 1)};
  return {char('a' + token % 26), char('a' + token / 26)};
}

}  // namespace

const ModelText& toy_text() {
  static const ModelText text = [] {
    nlohmann::json vocab = nlohmann::json::object();
    for (int32_t token = 1; token < kToyVocab; ++token) vocab[piece_of(token)] = token;
    const nlohmann::json end = {{"id", kToyEnd}, {"content", "<end>"}, {"special", true}};
    const nlohmann::json tokenizer = {
        {"added_tokens", {end}},
        {"decoder", {{"type", "ByteLevel"}}},
        {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", nlohmann::json::array()}}}};
    return ModelText{Tokenizer::from_json(tokenizer, {{"eos_token", "<end>"}}), {}, "a toy does not chat"};
  }();
  return text;
}

void toy_logits(std::span<const ToyCell> before, float* logits) {
  uint64_t hash = before.size();
  for (const ToyCell& cell : before) hash = mixed(hash ^ uint64_t(cell.token * 2 + int(cell.folded)));
  for (int32_t token = 0; token < kToyVocab; ++token)
    logits[token] = float(mixed(hash + uint64_t(token)) >> 40) * 0x1p-21f;  // 0 to 8
}

// The prompt runs densely, what follows folded.
WholeText whole_text(const Request& request) {
  Sampler sampler(kToyVocab);
  std::vector<ToyCell> cells;
  for (const int32_t token : request.prompt) cells.push_back({token, false});
  std::vector<int32_t> all = request.prompt;
  std::vector<float> logits(kToyVocab);
  WholeText whole;
  const auto& stop = request.sampling.stop;
  while (int(whole.tokens.size()) < request.sampling.max_tokens && int64_t(all.size()) < kToyPositions) {
    toy_logits(cells, logits.data());
    const int32_t token = sampler.sample(request.sampling, all, logits);
    all.push_back(token);
    cells.push_back({token, true});
    whole.tokens.push_back(token);
    if (token == kToyEnd && !request.sampling.ignore_eos) return whole.finish_reason = "stop", whole;
    whole.text += piece_of(token);
    if (stop.empty()) continue;
    const size_t found = whole.text.find(stop.front());
    if (found == std::string::npos) continue;
    whole.text.resize(found);
    return whole.finish_reason = "stop", whole;
  }
  return whole.finish_reason = "length", whole;
}

std::vector<float> toy_logprobs(const std::vector<int32_t>& prompt, const std::vector<int32_t>& given) {
  Sampler sampler(kToyVocab);
  std::vector<ToyCell> cells;
  for (const int32_t token : prompt) cells.push_back({token, false});
  std::vector<float> logits(kToyVocab), logprobs;
  for (const int32_t token : given) {
    toy_logits(cells, logits.data());
    logprobs.push_back(sampler.logprob(logits, token, 0).logprob);
    cells.push_back({token, true});
  }
  return logprobs;
}

}  // namespace pleat::test
