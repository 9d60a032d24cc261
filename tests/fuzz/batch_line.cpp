// A line of a batch job's input (JSONL), and the lines that answer them.
#include "launcher/job_record.h"
#include "tests/fuzz/fuzz.h"

using namespace pleat;

namespace {

ModelText with_template() {
  ModelText text = ModelText::open(PLEAT_SOURCE_DIR "/models/pleat-gpt2-9m");
  text.chat = ChatTemplate("{% for m in messages %}{{ m['role'] + ': ' + m['content'] | trim }}\n{% endfor %}",
                           std::nullopt, std::nullopt);
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const ModelText text = with_template();
  const JobRecord record = parse_record(std::string(fuzz::text_of(data, size)), 1, {}, text);
  if (record.request) {
    fuzz::accepts([&] { validate(*record.request, text.tokenizer.vocab_size(), 512); });
    completion_line(record, {}, "model", text.tokenizer);
  } else {
    fuzz::expect(!record.error_message.empty(), "a record that cannot be done says why");
    error_line(record, record.error_code, record.error_message, false);
  }
  return 0;
}
