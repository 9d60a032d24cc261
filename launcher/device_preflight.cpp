#include "launcher/device_preflight.h"

#include <algorithm>
#include <cstdio>

#include <nlohmann/json.hpp>

#include "kernels/cuda/device.h"
#include "launcher/preflight.h"
#include "launcher/together.h"
#include "parallel/device/device_inventory.h"
#include "parallel/device/make_device_sum.h"

namespace pleat {
namespace {

constexpr int64_t kSumWidth = 4096;     // floats of a row
constexpr int kSumsInARow = 20;         // enqueued together, as a step's are
constexpr double kTimeOfSums_us = 5e3;  // for which fewer will do

struct DevicePreflight {
  std::vector<RankDevice> devices;
  std::string way;                // that the sums go
  std::vector<LinkReport> links;  // rank 0 only
  bool same_bits = false;
};

// This rank's end of the sums that are looked at.
struct Devices {
  Devices(Communicator& communicator_, const CommonOptions& options)
      : communicator(communicator_),
        exchange(kVirtualShards, communicator.ranks()),
        mine(size_t(exchange.most_nodes * kLargestSum) / sizeof(float)),
        out(size_t(kLargestSum) / sizeof(float)),
        sum(make_device_sum(communicator, reduction_kind(options), exchange.most_nodes, int64_t(mine.size()),
                            device_sums_kind(options))) {
    cuda::zero(mine.data(), mine.size() * sizeof(float), stream.get());
    sum->wait(stream);
    communicator.barrier("preflight");
  }

  void all_reduce(int64_t n) {
    const int64_t width = std::min(n, kSumWidth);
    sum->all_reduce(stream.get(), "preflight", exchange, int(n / width), int(width), mine.data(), out.data());
  }

  bool same_bits(bool in_any_order) {
    const auto sum_of_ranks = [&](const TreeExchange&, const float* values, int64_t n, float* result) {
      const size_t nodes = exchange.nodes[size_t(communicator.rank())].size();
      mine.copy_from({values, nodes * size_t(n)}, stream);
      all_reduce(n);
      sum->wait(stream);  // a copy to memory that is not pinned waits without a deadline
      cuda::copy_to_host(result, out.data(), size_t(n) * sizeof(float), stream.get());
      stream.wait();
    };
    return pleat::same_bits(communicator, sum_of_ranks, in_any_order);
  }

  LinkReport measure(int64_t bytes) {
    int count = 1;
    const auto sums = [&] {
      for (int i = 0; i < count; ++i) all_reduce(bytes / int64_t(sizeof(float)));
      sum->wait(stream);
    };
    const int64_t start = steady_ns();
    sums();
    const double once_us = double(steady_ns() - start) * 1e-3;
    count = int(std::clamp(kTimeOfSums_us / once_us, 1.0, double(kSumsInARow)));
    count = int(communicator.agree_min("preflight", count));
    return measure_sums(communicator, bytes, count, sums);
  }

  Communicator& communicator;
  cuda::Stream stream;
  TreeExchange exchange;
  cuda::DeviceArray<float> mine, out;
  std::unique_ptr<DeviceSum> sum;
};

DevicePreflight device_preflight(Communicator& communicator, const CommonOptions& options) {
  DevicePreflight result;
  result.devices = take_devices(communicator);
  try {
    check_devices(result.devices);
  } catch (const Error& error) {
    throw SharedError(error.kind(), error.what());
  }
  Devices devices(communicator, options);
  result.way = devices.sum->way();
  // NCCL's own order is no tree's.
  result.same_bits = devices.same_bits(reduction_kind(options) == Reduction::fast);
  for (int64_t bytes = kSmallestSum; bytes <= kLargestSum && communicator.ranks() > 1; bytes *= 4)
    result.links.push_back(devices.measure(bytes));
  return result;
}

std::string explained(const std::string& way) {
  if (way == "peers") return "peers: each rank's kernels read the other devices' memory";
  if (way.starts_with("peers, ")) return way + ": each rank's kernels read the other devices' memory up to there";
  if (way == "nccl") return "nccl";
  if (way == "host") return "host: through the hosts' memory";
  return "none: there is one rank";
}

const char* verdict(const DevicePreflight& result) {
  return result.same_bits ? "the devices' sums have the same bits on every rank"
                          : "the devices' sums do NOT have the same bits: do not run a job here";
}

void print_table(const DevicePreflight& result) {
  int host_width = 4, name_width = 4;
  for (const RankDevice& rank : result.devices) {
    host_width = std::max(host_width, int(rank.host.size()));
    name_width = std::max(name_width, int(rank.device.name.size()));
  }
  std::printf("rank  %-*s  device  %-12s  %-*s  memory free\n", host_width, "host", "PCI", name_width, "name");
  for (size_t i = 0; i < result.devices.size(); ++i) {
    const auto& [host, visible, trouble, device] = result.devices[i];
    std::printf("%4zu  %-*s  %6d  %-12s  %-*s  %.1f of %.1f GB\n", i, host_width, host.c_str(), device.ordinal,
                device.pci.c_str(), name_width, device.name.c_str(), double(device.memory_free) * 1e-9,
                double(device.memory_total) * 1e-9);
  }
  std::printf("\nsums: %s\n", explained(result.way).c_str());
  print_links(result.links);
  std::printf("\n%s\n", verdict(result));
}

void print_json(const DevicePreflight& result) {
  nlohmann::ordered_json devices = nlohmann::ordered_json::array();
  for (const auto& [host, visible, trouble, device] : result.devices)
    devices.push_back({{"host", host},
                       {"device", device.ordinal},
                       {"pci", device.pci},
                       {"name", device.name},
                       {"memory_free", device.memory_free},
                       {"memory_total", device.memory_total}});
  const nlohmann::ordered_json report = {{"devices", devices},
                                         {"sums", result.way},
                                         {"device_all_reduce", links_json(result.links)},
                                         {"same_bits", result.same_bits},
                                         {"verdict", verdict(result)}};
  std::printf("%s\n", report.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
}

}  // namespace

int run_device_check(Communicator& communicator, const CommonOptions& options) {
  const DevicePreflight result = device_preflight(communicator, options);
  if (communicator.rank() == 0) options.json ? print_json(result) : print_table(result);
  return result.same_bits ? 0 : 1;
}

}  // namespace pleat
