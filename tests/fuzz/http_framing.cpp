// A connection's bytes: framed the same however they are cut into pieces, and what is let through is framed again the
// same.
#include "cluster/http/framing.h"
#include "tests/fuzz/fuzz.h"

using namespace pleat;

namespace {

struct Seen {
  std::string out;
  int status = 0;
  bool operator==(const Seen&) const = default;
};

Seen see(std::string_view bytes, size_t piece) {
  Framing framing(FramingLimits{512, 100});
  Seen seen;
  for (size_t i = 0; i < bytes.size(); i += piece) framing.take(bytes.substr(i, piece), seen.out);
  seen.status = framing.fault().status;
  return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes = fuzz::text_of(data, size);
  const Seen whole = see(bytes, size + 1);
  fuzz::expect(whole == see(bytes, 1) && whole == see(bytes, 7), "pieces do not matter");
  fuzz::expect(whole.out.size() <= size, "nothing is added");
  fuzz::expect(see(whole.out, size + 1).out == whole.out, "what was let through is let through again");
  return 0;
}
