// Every kernel of kernels/cuda on this device, a JSON object a line: validated, microseconds, GB/s, and what share of
// the device's own copy bandwidth that is.
//   kernel_lab [tiny [FAMILY]] | kernel_lab full [FAMILY]
// Exit code 0: all are right; 1: one is not; 2: there is no device.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <nlohmann/json.hpp>

#include "kernels/check.h"
#include "kernels/cuda/copy_bandwidth.h"
#include "lab.h"

namespace pleat::lab {
namespace {

constexpr int64_t kCacheBytes = int64_t(256) << 20;  // more than any device's
constexpr int kRounds = 7;

}  // namespace

Lab::Lab(bool tiny) : tiny_(tiny), copy_bandwidth_(cuda::copy_bandwidth(stream_, tiny ? 1 << 20 : 1 << 30)) {
  const cuda::DeviceInfo device = cuda::device_info();
  std::printf("%s\n", nlohmann::json{{"device", device.name},
                                     {"compute_capability", concat(device.major, ".", device.minor)},
                                     {"memory_bytes", device.memory_total},
                                     {"copy_gb_per_second", copy_bandwidth_ / 1e9}}
                          .dump()
                          .c_str());
}

int Lab::copies(int64_t bytes) const { return tiny_ ? 1 : int(std::max<int64_t>(1, kCacheBytes / bytes)); }

// The median round of calls, one behind the other in a graph, as in a step; a round takes some milliseconds.
double Lab::microseconds(const Entry& entry) {
  const auto time = [&](const std::function<void()>& work) {
    cuda::Event begin(cuda::Event::timed), end(cuda::Event::timed);
    begin.record(stream_);
    work();
    end.record(stream_);
    stream_.wait();
    return 1e3 * double(end.milliseconds_since(begin));
  };
  const auto call = [&](int calls) {
    for (int i = 0; i < calls; ++i) entry.call(stream_.get(), i);
  };
  const int calls = tiny_ ? 1 : std::clamp(int(5e3 / std::max(time([&] { call(4); }) / 4, 1.0)), 4, 400);
  const cuda::Graph graph(stream_, [&] { call(calls); });
  graph.launch(stream_);  // the first one is slow
  std::vector<double> rounds;
  for (int round = 0; round < (tiny_ ? 1 : kRounds); ++round)
    rounds.push_back(time([&] { graph.launch(stream_); }) / calls);
  std::sort(rounds.begin(), rounds.end());
  return rounds[rounds.size() / 2];
}

void Lab::measure(const Entry& entry) {
  std::string wrong;
  double time = 0;
  try {
    entry.call(stream_.get(), 0);
    stream_.wait();
    wrong = entry.check();
    if (wrong.empty()) time = microseconds(entry);
  } catch (const Error& error) {
    wrong = error.what();
  }
  report(entry, wrong, time);
}

void Lab::report(const Entry& entry, const std::string& wrong, double microseconds) {
  nlohmann::json json{{"kernel", entry.kernel}, {"shape", entry.shape}, {"valid", wrong.empty()}};
  if (!wrong.empty()) {
    ++failures_;
    json["wrong"] = wrong;
  } else {
    json["us"] = microseconds;
    json["bytes"] = entry.bytes;
    json["gb_per_second"] = entry.bytes / microseconds / 1e3;
    json["share_of_copy"] = entry.bytes / microseconds * 1e6 / copy_bandwidth_;
    if (entry.flops > 0) json["tflop_per_second"] = entry.flops / microseconds / 1e6;
  }
  std::printf("%s\n", json.dump().c_str());
  std::fflush(stdout);
}

void Sum::add(double x, double w) {
  value += x * w;
  magnitude += std::fabs(x * w);
}

std::string Sum::compare(double got, double roundings, int element) const {
  // The first: of a comparison with NaN, which is never near.
  if (std::fabs(got - value) <= roundings * 0x1p-24 * magnitude) return "";
  return concat("element ", element, " is ", got, ", expected ", value);
}

}  // namespace pleat::lab

int main(int argc, char** argv) {
  using namespace pleat;
  // lab_sums.cpp's ranks share the device (tests/kernels/cuda/on_a_device.cpp).
  setenv("CUDA_MODULE_LOADING", "EAGER", 0);
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
  if (const std::string why = cuda::why_no_device(); !why.empty()) {
    std::fprintf(stderr, "kernel_lab: there is no CUDA device: %s\n", why.c_str());
    return 2;
  }
  const struct {
    const char* name;
    void (*run)(lab::Lab&);
  } families[] = {{"products", lab::products},
                  {"planes", lab::planes},
                  {"prompts", lab::prompts},
                  {"folds", lab::folds},
                  {"selections", lab::selections},
                  {"choices", lab::choices},
                  {"cut_inputs", lab::cut_inputs},
                  {"attentions", lab::attentions},
                  {"channels", lab::channels},
                  {"rows", lab::rows},
                  {"sums", lab::sums}};
  const bool tiny = argc < 2 || std::strcmp(argv[1], "full") != 0;
  lab::Lab lab(tiny);
  for (const auto& family : families) {
    if (argc > 2 && std::strcmp(argv[2], family.name) != 0) continue;
    try {
      family.run(lab);
    } catch (const Error& error) {
      lab.report({family.name, "", 0, 0, {}, {}}, error.what(), 0);
    }
  }
  return lab.failures() > 0 ? 1 : 0;
}
