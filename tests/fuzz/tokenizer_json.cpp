// A tokenizer.json, and texts through what it describes.
#include "core/checkpoint/json_file.h"
#include "core/text/tokenizer.h"
#include "tests/fuzz/fuzz.h"

using namespace pleat;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::accepts([&] {
    const Tokenizer tokenizer = Tokenizer::from_json(parse_json(fuzz::text_of(data, size), "tokenizer.json"), {});
    for (const std::string_view text : {"", " the  cat's\n 42", "a\xff\xc3\xa9 <s>", "\xe2\x96\x81"}) {
      fuzz::accepts([&] {
        const std::vector<int32_t> ids = tokenizer.encode_with_special(text);
        for (const int32_t id : ids)
          fuzz::expect(id >= 0 && id < tokenizer.vocab_size(), "a token is one of the vocabulary");
        tokenizer.decode(ids);
        tokenizer.continuation(ids, false);
      });
    }
  });
  return 0;
}
