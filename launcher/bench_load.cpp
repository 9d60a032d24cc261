#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/checkpoint/file.h"
#include "kernels/thread_team.h"

#include "launcher/bench.h"
#include "launcher/bootstrap.h"
#include "launcher/device_preflight.h"
#include "launcher/model_folder.h"
#include "launcher/preflight.h"
#include "launcher/together.h"

namespace pleat {
namespace {

// The files that hold a model's weights.
std::vector<File> weight_files(const std::string& model) {
  std::vector<File> files;
  if (!std::filesystem::is_directory(model))
    files.emplace_back(model);
  else
    for (const auto& entry : std::filesystem::directory_iterator(model))
      if (entry.path().extension() == ".safetensors") files.emplace_back(entry.path());
  return files;
}

// Seconds in which the team reads this rank's equal part of all files, and their bytes: to the same small buffers again
// and again, or (`to_memory`) to new memory of that size.
std::pair<double, int64_t> read_plainly(const std::vector<File>& files, int rank, int ranks, bool to_memory,
                                        ThreadTeam& team) {
  constexpr uint64_t kPiece = 1 << 20;
  struct Piece {
    const File* file;
    uint64_t offset, bytes;
  };
  std::vector<Piece> pieces;
  for (const File& file : files)
    for (uint64_t at = file.size() * uint64_t(rank) / uint64_t(ranks),
                  end = file.size() * uint64_t(rank + 1) / uint64_t(ranks);
         at < end; at += kPiece)
      pieces.push_back({&file, at, std::min(kPiece, end - at)});
  int64_t total = 0;
  for (const Piece& piece : pieces) total += int64_t(piece.bytes);
  const auto start = Clock::now();
  const Buffer memory(kPiece * (to_memory ? pieces.size() : size_t(team.threads())));
  team.try_each(int64_t(pieces.size()), [&](int member, int64_t i) {
    const Piece& piece = pieces[size_t(i)];
    piece.file->read(piece.offset, piece.bytes, memory.as<std::byte>() + kPiece * uint64_t(to_memory ? i : member));
  });
  return {seconds_since(start), total};
}

}  // namespace

// Loads and reads plainly in turn and reports the best of each: the files come into memory in the first round, if they
// fit, and a virtual machine whose host has taken free memory back gets it again at its first use only.
int bench_load(Communicator& communicator, const BenchOptions& options) {
  constexpr int kRounds = 3;
  agree(communicator, [&] { check_model(options.model, communicator.ranks(), reduction_kind(options.common)); });
  struct Report {
    double seconds = 1e9, read_rate = 0, fill_rate = 0;  // bytes/s: of reading the files, and of reading to new memory
    int64_t read = 0, weights = 0, peak = 0, before = 0;
  } mine;
  const std::vector<File> files = weight_files(options.model);
  const auto yardstick = [&](bool to_memory) {
    ThreadTeam team(options.common.threads > 0 ? options.common.threads : default_threads(), oversubscribed());
    communicator.barrier("yardstick");
    const auto [seconds, bytes] = read_plainly(files, communicator.rank(), communicator.ranks(), to_memory, team);
    communicator.ledger().beat();
    return double(bytes) / seconds;
  };
  const auto most_memory = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss * 1024;
  };
  ModelOptions model{options.model, false, {}};
  model.engine.max_rows = 16;
  model.engine.kv_tokens = 16;
  for (int round = 0; round < kRounds; ++round) {
    mine.read_rate = std::max(mine.read_rate, yardstick(false));
    if (round == 0) mine.before = most_memory();
    communicator.barrier("load");
    const auto start = Clock::now();
    std::optional<LoadedModel> loaded = load_on_ranks(model, options.common, communicator);
    mine.seconds = std::min(mine.seconds, seconds_since(start));
    if (round == 0) mine.peak = most_memory();
    mine.read = loaded->bytes_read;
    mine.weights = loaded->weight_bytes;
    loaded.reset();  // room for the next
    mine.fill_rate = std::max(mine.fill_rate, yardstick(true));
  }
  const std::vector<Report> all = gather_values(communicator, "load", mine);
  for (size_t rank = 0; rank < all.size(); ++rank) {
    const Report& r = all[rank];
    const double mb = 1e6, grown = double(r.peak - r.before), rate = double(r.read) / r.seconds;
    if (options.common.json)
      std::printf("%s\n", nlohmann::json{{"rank", rank},
                                         {"seconds", r.seconds},
                                         {"bytes_read", r.read},
                                         {"gb_per_second", rate / 1e9},
                                         {"file_read_gb_per_second", r.read_rate / 1e9},
                                         {"file_to_memory_gb_per_second", r.fill_rate / 1e9},
                                         {"weight_bytes", r.weights},
                                         {"peak_bytes", r.peak},
                                         {"peak_growth_over_weights", grown / double(r.weights)}}
                              .dump()
                              .c_str());
    else
      std::printf(
          "rank %zu: read %.1f MB in %.2f s (%.2f GB/s: %.0f%% of reading the file, %.0f%% of reading it to new "
          "memory), holds %.1f MB packed, peak memory %.1f MB (%.1f MB before): %.2fx\n",
          rank, double(r.read) / mb, r.seconds, rate / 1e9, 100 * rate / r.read_rate, 100 * rate / r.fill_rate,
          double(r.weights) / mb, double(r.peak) / mb, double(r.before) / mb, grown / double(r.weights));
  }
  return 0;
}

int bench_allreduce(Communicator& communicator, const BenchOptions& options) {
  return options.common.device == "cuda" ? run_device_check(communicator, options.common)
                                         : run_check(communicator, options.common.json);
}

}  // namespace pleat
