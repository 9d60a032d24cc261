#include "parallel/device/device_inventory.h"

#include <unistd.h>

#include <algorithm>
#include <span>

#include "kernels/check.h"

namespace pleat {
namespace {

// A text of fixed size, as a message carries it.
template <int kSize>
struct Text {
  char characters[kSize] = {};

  Text() = default;
  explicit Text(const std::string& text) { text.copy(characters, kSize - 1); }
  std::string get() const { return {characters, std::find(characters, characters + kSize, '\0')}; }
};

// RankDevice as bytes.
struct Card {
  Text<64> host;
  Text<160> trouble;
  Text<40> pci, uuid;
  Text<128> name;
  int visible = 0, ordinal = 0, major = 0, minor = 0;
  int64_t memory_total = 0, memory_free = 0;

  Card() = default;
  explicit Card(const RankDevice& rank)
      : host(rank.host),
        trouble(rank.trouble),
        pci(rank.device.pci),
        uuid(rank.device.uuid),
        name(rank.device.name),
        visible(rank.visible),
        ordinal(rank.device.ordinal),
        major(rank.device.major),
        minor(rank.device.minor),
        memory_total(rank.device.memory_total),
        memory_free(rank.device.memory_free) {}
  RankDevice get() const {
    return {host.get(),
            visible,
            trouble.get(),
            {ordinal, pci.get(), uuid.get(), name.get(), major, minor, memory_total, memory_free}};
  }
};

std::vector<RankDevice> gather(Communicator& communicator, const RankDevice& mine) {
  const Card card(mine);
  std::vector<Card> cards(size_t(communicator.ranks()));
  const std::vector<int64_t> counts(cards.size(), sizeof card);
  communicator.all_gather("devices", std::as_bytes(std::span(&card, 1)), counts,
                          reinterpret_cast<std::byte*>(cards.data()));
  std::vector<RankDevice> devices;
  devices.reserve(cards.size());
  for (const Card& each : cards) devices.push_back(each.get());
  return devices;
}

std::string host_name() {
  char name[64] = {};
  gethostname(name, sizeof name - 1);
  return name;
}

}  // namespace

std::string name_of(int rank, const RankDevice& device) {
  return concat("rank ", rank, " (host ", device.host, ", device ", device.device.ordinal, ", PCI ", device.device.pci,
                ")");
}

int choose_device(int local_rank, int visible) {
  if (visible == 1) return 0;
  return local_rank < visible ? local_rank : -1;
}

RankDevice this_device() {
  return {.host = host_name(), .visible = cuda::device_count(), .device = cuda::device_info()};
}

std::vector<RankDevice> take_devices(Communicator& communicator) {
  RankDevice mine{.host = host_name(), .trouble = cuda::why_no_device()};
  if (mine.trouble.empty()) {
    mine.visible = cuda::device_count();
    const int ordinal = choose_device(communicator.on_host().rank, mine.visible);
    if (ordinal >= 0) {
      cuda::use_device(ordinal);
      mine = this_device();
    } else {
      mine.trouble = "too few are visible";
    }
  }
  return gather(communicator, mine);
}

}  // namespace pleat
