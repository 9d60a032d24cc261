// The part of device_inventory.h that looks at no device.
#include <algorithm>

#include "kernels/check.h"
#include "parallel/device/device_inventory.h"
#include "parallel/one_decimal.h"

namespace pleat {
namespace {

constexpr double kLeastShare = 0.9;  // of the largest free memory

std::string gib(int64_t bytes) { return one_decimal(double(bytes) / (1 << 30)) + " GiB"; }

std::string kind_of(const cuda::DeviceInfo& device) {
  return concat(device.name, " (", device.major, ".", device.minor, ")");
}

int ranks_of(const std::vector<RankDevice>& ranks, const std::string& host) {
  return int(std::count_if(ranks.begin(), ranks.end(), [&](const RankDevice& rank) { return rank.host == host; }));
}

void check_that_all_have_one(const std::vector<RankDevice>& ranks) {
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    const auto& [host, visible, trouble, device] = ranks[rank];
    if (trouble.empty()) continue;
    const int wanted = ranks_of(ranks, host);
    PLEAT_REQUIRE(visible == 0, "rank ", rank, " (host ", host, ") finds no device left: ", wanted,
                  " ranks of this host see ", visible, "; let CUDA_VISIBLE_DEVICES show ", wanted,
                  " or start fewer ranks there");
    PLEAT_REQUIRE(false, "rank ", rank, " (host ", host, ") has no CUDA device: ", trouble,
                  "; is there a driver, and does CUDA_VISIBLE_DEVICES show a device?");
  }
}

void check_that_none_is_shared(const std::vector<RankDevice>& ranks) {
  for (size_t b = 0; b < ranks.size(); ++b)
    for (size_t a = 0; a < b; ++a)
      // Containers may give one host several names.
      PLEAT_REQUIRE(ranks[a].device.uuid != ranks[b].device.uuid, "ranks ", a, " and ", b, " are both on device ",
                    ranks[b].device.ordinal, " of host ", ranks[b].host, " (PCI ", ranks[b].device.pci,
                    "): start one rank a device, and let CUDA_VISIBLE_DEVICES show all of them");
}

}  // namespace

void check_devices(const std::vector<RankDevice>& ranks, bool may_share) {
  check_that_all_have_one(ranks);
  if (!may_share) check_that_none_is_shared(ranks);
  for (size_t rank = 1; rank < ranks.size(); ++rank)
    PLEAT_REQUIRE(kind_of(ranks[rank].device) == kind_of(ranks[0].device), name_of(int(rank), ranks[rank]), " has ",
                  kind_of(ranks[rank].device), " and ", name_of(0, ranks[0]), " has ", kind_of(ranks[0].device),
                  ": choose devices of one kind");
  const auto by_free = [](const RankDevice& a, const RankDevice& b) {
    return a.device.memory_free < b.device.memory_free;
  };
  const auto [least, most] = std::minmax_element(ranks.begin(), ranks.end(), by_free);
  if (double(least->device.memory_free) >= kLeastShare * double(most->device.memory_free)) return;
  // May pass: what was killed a moment ago still gives its memory back.
  throw Error(ErrorKind::failed,
              concat(name_of(int(least - ranks.begin()), *least), " has ", gib(least->device.memory_free), " free of ",
                     gib(least->device.memory_total), ", but ", name_of(int(most - ranks.begin()), *most), " has ",
                     gib(most->device.memory_free), ": end what else runs there"));
}

}  // namespace pleat
