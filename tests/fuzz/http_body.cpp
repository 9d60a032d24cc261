// Bodies of /v1/completions and /v1/chat/completions, and the messages to a replica that come of them.
#include <capnp/message.h>

#include "cluster/http/openai_request.h"
#include "cluster/messages.h"
#include "tests/fuzz/fuzz.h"

using namespace pleat;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string body(fuzz::text_of(data, size));
  for (const bool chat : {false, true}) {
    fuzz::accepts([&] {
      const OpenAiRequest request = read_openai_request(body, chat, {});
      fuzz::expect(request.choices() <= OpenAiLimits().choices, "choices are limited");
      for (const OpenAiPrompt& prompt : request.prompts) {
        capnp::MallocMessageBuilder message;
        auto out = message.initRoot<rpc::GenerateRequest>();
        write_prompt(prompt, out.initPrompt());
        write_sampling(request.sampling, out.initSampling());
      }
    });
  }
  return 0;
}
