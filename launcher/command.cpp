#include "launcher/command.h"

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include <CLI/CLI.hpp>

#include "core/engine/device/device_executor.h"
#include "kernels/check.h"

namespace pleat {

std::function<std::string(const std::string&)> number_between(double least, double most) {
  return [least, most](const std::string& text) {
    const char* const end = text.c_str() + text.size();
    char* after = nullptr;
    const double value = std::strtod(text.c_str(), &after);
    return after == end && value >= least && value <= most
               ? ""
               : concat(text, " is not a number from ", least, " to ", most);
  };
}

void check_new_file(const std::string& path) {
  std::error_code absent;
  PLEAT_REQUIRE(!std::filesystem::is_regular_file(path, absent) || std::filesystem::file_size(path, absent) == 0, "'",
                path, "' exists already: choose another name or remove it");
}

std::string file_in_the_making(const std::string& path) {
  std::error_code absent;
  const bool other = std::filesystem::exists(path, absent) && !std::filesystem::is_regular_file(path, absent);
  return other ? path : path + ".part";
}

void name_new_file(const std::string& path) {
  std::error_code error;
  if (const std::string made = file_in_the_making(path); made != path) std::filesystem::rename(made, path, error);
  if (error) throw Error(ErrorKind::failed, concat("cannot write '", path, "': ", error.message()));
}

void add_common_flags(CLI::App& app, CommonOptions& options) {
  app.add_option("--device", options.device,
                 "Where it runs; cuda, an NVIDIA GPU: generate, eval, serve, check and bench")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  app.add_option("--threads", options.threads, "Threads of each rank; 0: its share of the host's cores")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--dtype", options.dtype, "Weights as held in memory")
      ->check(CLI::IsMember({"bf16", "f32"}))
      ->capture_default_str();
  app.add_flag("--json", options.json, "Results as JSON, one object a line");
  app.add_flag("--quiet", options.quiet, "No progress and no summary on stderr");
}

void add_rank_flags(CLI::App& app, CommonOptions& options) {
  app.add_option("--reduction", options.reduction,
                 "How ranks sum: invariant gives the same bits for any number of ranks, fast the shortest step")
      ->check(CLI::IsMember({"invariant", "fast"}))
      ->capture_default_str();
  app.add_option("--device-sums", options.device_sums,
                 "What --device cuda sums over: the devices' own memory (peers), NCCL or the host's memory; auto: the "
                 "first of them that there is, with NCCL for sizes where it was faster than peers at the start; a job "
                 "that NCCL's start ends, because it hangs, may do without it by peers or host")
      ->check(CLI::IsMember({"auto", "peers", "nccl", "host"}))
      ->capture_default_str();
  app.add_option("--step-timeout", options.step_timeout,
                 "Seconds without a sign of life after which a rank counts as lost and the job ends with code 70")
      ->check(number_between(0.1, 86400.0))
      ->capture_default_str();
}

void add_cache_flags(CLI::App& app, CommonOptions& options) {
  app.add_option("--kv-format", options.kv_format,
                 "Keys and values in the cache; without it bf16, or f32 with --dtype f32")
      ->check(CLI::IsMember({"bf16", "int8"}));
  app.add_option("--key-channels", options.key_channels,
                 "Share of each head's key channels that older tokens keep after the prompt; 1: all")
      ->check([](const std::string& text) {
        const double share = std::strtod(text.c_str(), nullptr);
        return share > 0 && share <= 1 ? "" : "the share is " + text + ", expected more than 0 and at most 1";
      })
      ->capture_default_str();
}

EngineOptions cache_options(const CommonOptions& options) {
  EngineOptions engine;
  if (options.kv_format == "int8") engine.kv_dtype = DType::i8;
  if (options.kv_format == "bf16") engine.kv_dtype = DType::bf16;
  if (options.kv_format.empty() && options.dtype == "f32") engine.kv_dtype = DType::f32;
  engine.key_channels = options.key_channels;
  engine.device_sums = device_sums_kind(options);
  return engine;
}

void require_device(const CommonOptions& options, RunsOn runs_on) {
  if (options.device != "cuda") return;
  device_backend();
  if (runs_on == RunsOn::cpu)
    throw Error(ErrorKind::unimplemented,
                "--device cuda is for generate, eval, serve, check and bench; this command runs on the CPU");
}

double budget_named(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  const bool percent = *end == '%' && end[1] == 0;
  PLEAT_REQUIRE(end != text.c_str() && (percent || *end == 0) && value > 0 && value <= (percent ? 100 : 1),
                "--budget is a share like 24% or 0.24, not '", text, "'");
  return percent ? value / 100 : value;
}

Reduction reduction_kind(const CommonOptions& options) {
  return options.reduction == "fast" ? Reduction::fast : Reduction::invariant;
}

DeviceSums device_sums_kind(const CommonOptions& options) {
  if (options.device_sums == "peers") return DeviceSums::peers;
  if (options.device_sums == "nccl") return DeviceSums::nccl;
  return options.device_sums == "host" ? DeviceSums::host : DeviceSums::automatic;
}

}  // namespace pleat
