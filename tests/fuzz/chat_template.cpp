// A chat template, rendered with a conversation.
#include "core/text/chat_template.h"

#include "tests/fuzz/fuzz.h"

using namespace pleat;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto messages = nlohmann::ordered_json::parse(
      R"([{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hé <b>&amp;</b>\n"},
          {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1.5}}}]}])");
  fuzz::accepts([&] {
    const ChatTemplate chat(std::string(fuzz::text_of(data, size)), "<s>", std::nullopt);
    chat.render(messages, true, {{"tools", {{{"type", "function"}}}}});
  });
  return 0;
}
