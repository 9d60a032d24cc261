// Files of one entry a line: API keys, addresses of replicas; and the first line as an address.
#include "cluster/address.h"
#include "cluster/http/api_keys.h"
#include "cluster/router/address_file.h"
#include "tests/fuzz/fuzz.h"

using namespace pleat;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(fuzz::text_of(data, size));
  const std::string line = bytes.substr(0, bytes.find('\n'));
  fuzz::accepts(
      [&] { fuzz::expect(!host_of(with_port(with_default_port(line), 1)).empty(), "an address has a host"); });
  is_loopback(line);
  const fuzz::MemoryFile file(bytes);
  fuzz::accepts([&] { fuzz::expect(ApiKeys::read(file.path()).required(), "a file of keys asks for one"); });
  fuzz::accepts([&] {
    const auto addresses = AddressFile(file.path()).changed();
    fuzz::expect(addresses && !addresses->empty(), "a file of addresses lists some");
  });
  return 0;
}
