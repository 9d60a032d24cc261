// A tokenizer_config.json beside a small tokenizer.
#include <string>

#include <nlohmann/json.hpp>

#include "core/checkpoint/json_file.h"
#include "core/text/chat_template.h"
#include "core/text/tokenizer.h"
#include "tests/fuzz/fuzz.h"

using namespace pleat;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const nlohmann::json tokenizer =
      read_json_file(PLEAT_SOURCE_DIR "/tests/fuzz/corpus/tokenizer_json/seed-ok-01");
  nlohmann::json config;
  if (!fuzz::accepts([&] { config = parse_json(fuzz::text_of(data, size), "tokenizer_config.json"); })) return 0;
  fuzz::accepts([&] {
    const Tokenizer all = Tokenizer::from_json(tokenizer, config);
    for (const auto& id : {all.bos(), all.eos()})
      fuzz::expect(!id || (*id >= 0 && *id < all.vocab_size()), "the first and the last token are tokens");
    fuzz::expect(all.encode_with_special("the cat").size() <= 40, "a text has not many more tokens than bytes");
  });
  fuzz::accepts([&] { ChatTemplate::from_json(config); });
  return 0;
}
