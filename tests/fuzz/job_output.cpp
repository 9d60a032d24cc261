// A file that --resume shall go on with.
#include "cluster/http/job_output.h"

#include "tests/fuzz/fuzz.h"

using namespace pleat;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fuzz::MemoryFile file(fuzz::text_of(data, size));
  // What a resumed file holds after the first time, the second finds whole.
  if (fuzz::accepts([&] { JobOutput(file.path(), true); }))
    fuzz::expect(
        fuzz::accepts([&] {
          JobOutput(file.path(), true).append(R"({"id":"batch_req_1","custom_id":"a","response":null,"error":{}})");
        }),
        "a file that was resumed can be resumed again");
  return 0;
}
