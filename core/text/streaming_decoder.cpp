#include "core/text/tokenizer.h"
#include "core/text/utf8.h"

namespace pleat {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

}  // namespace

std::string StreamingDecoder::push(int32_t id) {
  held_ += tokenizer_.continuation({&id, 1});
  std::string out;
  size_t done = 0;
  while (done < held_.size()) {
    const Utf8Step step = utf8_step(std::string_view(held_).substr(done));
    if (step.kind == Utf8Step::incomplete) break;
    out += step.kind == Utf8Step::valid ? std::string_view(held_).substr(done, step.length) : kReplacement;
    done += step.length;
  }
  held_.erase(0, done);
  return out;
}

std::string StreamingDecoder::flush() {
  const bool broken = !held_.empty();
  held_.clear();
  return broken ? std::string(kReplacement) : std::string();
}

}  // namespace pleat
