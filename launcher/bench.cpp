#include "launcher/bench.h"

#include <CLI/CLI.hpp>

#include "launcher/together.h"

namespace pleat {
namespace {

void add_kind(CLI::App& bench, Command& command, BenchOptions& options, const char* name, const char* help,
              bool needs_model, RunsOn runs_on, int (*run)(Communicator&, const BenchOptions&)) {
  CLI::App* sub = bench.add_subcommand(name, help);
  add_common_flags(*sub, options.common);
  add_rank_flags(*sub, options.common);
  if (needs_model) {
    CLI::Option* model = sub->add_option("--model", options.model, "model folder");
    if (std::string(name) == "load") {
      model->required();
    } else {
      add_cache_flags(*sub, options.common);
      sub->add_option("--synthetic", options.synthetic, "random weights of a published shape")
          ->check(CLI::IsMember(shape_names()))
          ->excludes(model);
      sub->add_option("--layers", options.layers, "layers of the synthetic shape (default: as many as fit in memory)")
          ->check(CLI::Range(1, 4096))
          ->excludes(model);
      sub->add_option("--fold", options.folds,
                      "also measure the synthetic shape folded at these reductions, e.g. 0.5 0.8")
          ->check(number_between(0.05, 0.99))
          ->excludes(model);
      sub->add_option("--weights", options.weights, "also measure the synthetic shape with low-bit matrices, e.g. int4")
          ->check(CLI::IsMember({"int8", "int6", "int5", "int4", "int3", "int2", "planes4", "planes3", "planes2"}))
          ->excludes(model);
      if (std::string(name) != "prefill") {
        sub->add_option("--batch", options.batches, "sequences that decode together; several: one after the other")
            ->check(CLI::Range(1, 256));
        sub->add_option("--context", options.context, "tokens before the first measured one")
            ->check(CLI::Range(1, 1 << 20));
      }
      sub->add_option("--tokens", options.tokens, "measured steps, or tokens of a measured prompt")
          ->check(CLI::Range(1, 1 << 16));
    }
  }
  if (std::string(name) == "decode")
    sub->add_flag("--profile", options.profile,
                  "also where each rank's time goes: kernels, barriers, collectives, waiting; on a device, by phases");
  sub->callback([&command, &options, run, runs_on] {
    command.run = [&options, run, runs_on] {
      return with_ranks(options.common, runs_on,
                        [&](Communicator& communicator) { return run(communicator, options); });
    };
  });
}

}  // namespace

void add_bench(CLI::App& app, Command& command) {
  CLI::App* bench =
      app.add_subcommand("bench", "Measure speed: bytes, GB/s and % of the read bandwidth measured in the same run");
  bench->footer(
      "Example: pleat bench decode --synthetic gpt2-xl\n"
      "         pleat bench fold --synthetic falcon-7b --layers 3 --batch 1 4 16\n"
      "         mpirun -np 2 pleat bench decode --model out/pleat-gpt2-9m-folded --batch 4");
  bench->require_subcommand(1);
  static BenchOptions options;
  add_kind(*bench, command, options, "decode", "one token a sequence and step", true, RunsOn::any_device, bench_decode);
  add_kind(*bench, command, options, "prefill", "a prompt in one step", true, RunsOn::any_device, bench_prefill);
  add_kind(*bench, command, options, "fold", "the FFN of such steps by itself, dense against folded", true,
           RunsOn::any_device, bench_fold);
  add_kind(*bench, command, options, "load", "reading and packing a folder: bytes, seconds, peak memory", true,
           RunsOn::any_device, bench_load);
  add_kind(*bench, command, options, "allreduce", "latency and bandwidth by size", false, RunsOn::any_device,
           bench_allreduce);
}

}  // namespace pleat
