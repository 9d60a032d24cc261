// The header of a safetensors file, and what Pleat keeps in its metadata.
#include "core/checkpoint/safetensors_header.h"
#include "core/model/fold_spec.h"
#include "core/model/quantised_tensors.h"
#include "tests/fuzz/fuzz.h"

using namespace pleat;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fuzz::MemoryFile memory(fuzz::text_of(data, size));
  fuzz::accepts([&] {
    const SafetensorsHeader header = read_safetensors_header(File(memory.path()));
    for (const auto& [name, tensor] : header.tensors)
      fuzz::expect(tensor.offset <= size && tensor.bytes <= size - tensor.offset, "a tensor lies within its file");
    const auto entry = [&](const char* name) { return header.metadata.value(name, std::string()); };
    fuzz::accepts([&] { fold_spec_from_metadata(entry("fold")); });
    fuzz::accepts([&] { quantised_tensors_from_metadata(entry("quantised")); });
  });
  return 0;
}
