// Messages of clients and of replicas, their first byte saying which: a request, a request to score, a completion. What
// Cap'n Proto itself finds wrong is a kj::Exception and ends a connection.
#include <capnp/serialize.h>

#include <cstring>
#include <vector>

#include "cluster/messages.h"
#include "cluster/refusal.h"
#include "tests/fuzz/fuzz.h"

using namespace pleat;

namespace {

constexpr int64_t kPositions = 512;

ModelText with_template() {
  ModelText text = ModelText::open(PLEAT_SOURCE_DIR "/models/pleat-gpt2-9m");
  text.chat = ChatTemplate("{% for m in messages %}{{ m['role'] + ': ' + m['content'] | trim }}\n{% endfor %}",
                           std::nullopt, std::nullopt);
  return text;
}

ServerLimits small_limits() {
  ServerLimits limits;
  limits.complete(kPositions, kPositions);
  return limits;
}

void read(uint8_t kind, capnp::MessageReader& message, const ModelTerms& terms) {
  switch (kind % 4) {
    case 0:
      validate(read_request(message.getRoot<rpc::GenerateRequest>(), terms), terms.text.tokenizer.vocab_size(),
               kPositions);
      return;
    case 1:
      read_requests(message.getRoot<rpc::ScoreRequest>(), terms);
      return;
    case 2:
      read_completion(message.getRoot<rpc::Completion>());
      return;
    default:
      throw Refusal(message.getRoot<rpc::Error>());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const ModelText text = with_template();
  static const ServerLimits limits = small_limits();
  if (size < 1) return 0;
  std::vector<capnp::word> words((size - 1) / sizeof(capnp::word));
  if (!words.empty()) std::memcpy(words.data(), data + 1, words.size() * sizeof(capnp::word));
  try {
    capnp::ReaderOptions options;
    options.traversalLimitInWords = uint64_t(limits.message_bytes()) / sizeof(capnp::word);
    capnp::FlatArrayMessageReader message(kj::arrayPtr(words.data(), words.size()), options);
    read(data[0], message, {text, limits, kPositions});
  } catch (const Refusal&) {
  } catch (const Error& error) {
    fuzz::check_refusal(error);
  } catch (const kj::Exception&) {
  }
  return 0;
}
