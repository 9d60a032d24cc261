// `pleat eval --task`: accuracy on a multiple-choice task.
#include "launcher/eval_task.h"

#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>

#include <nlohmann/json.hpp>

#include "core/engine/continuations.h"
#include "launcher/interrupt.h"
#include "launcher/model_folder.h"
#include "launcher/multiple_choice.h"
#include "launcher/preflight.h"
#include "launcher/progress.h"
#include "launcher/together.h"

namespace pleat {
namespace {

constexpr size_t kQuestionsTogether = 32;

struct Accuracy {
  int64_t questions = 0, right = 0, right_normalised = 0;
  bool normalised = false;  // the task has lengths

  void add(const Question& question, const Answer& answer) {
    ++questions;
    right += answer.pick == question.gold;
    right_normalised += answer.pick_normalised == question.gold;
    normalised |= !question.lengths.empty();
  }
  double share(int64_t count) const { return double(count) / double(questions); }
  double standard_error(int64_t count) const {
    const double p = share(count);
    return questions > 1 ? std::sqrt(p * (1 - p) / double(questions - 1)) : 0;
  }
};

// Rank 0: all questions, in order.
Accuracy answer_all(const TaskOptions& options, const CommonOptions& common, const std::vector<Question>& questions,
                    const Tokenizer& tokenizer, Engine& engine, Communicator& communicator,
                    const InterruptGuard& interrupt) {
  Accuracy accuracy;
  std::ofstream items;
  if (!options.output.empty()) {
    items.open(file_in_the_making(options.output));
    PLEAT_REQUIRE(items.is_open(), "cannot write '", options.output, "'");
  }
  Progress progress("eval " + options.task, int64_t(questions.size()), common.quiet);
  for (size_t begin = 0; begin < questions.size() && !interrupt.signal(); begin += kQuestionsTogether) {
    const size_t end = std::min(begin + kQuestionsTogether, questions.size());
    std::vector<Continuation> texts;
    for (size_t q = begin; q < end; ++q)
      for (const Choice& choice : questions[q].choices)
        texts.push_back(continuation_tokens(tokenizer, choice.context, choice.continuation));
    std::vector<double> likelihoods(texts.size());
    score_continuations(engine, communicator, texts, [&](size_t index, double value) { likelihoods[index] = value; });
    const double* next = likelihoods.data();
    for (size_t q = begin; q < end; ++q) {
      const Question& question = questions[q];
      const Answer answer = answer_of(question, {next, next + question.choices.size()});
      next += question.choices.size();
      accuracy.add(question, answer);
      if (items.is_open())
        items << nlohmann::ordered_json{{"id", question.id},
                                        {"gold", question.gold},
                                        {"log_likelihoods", answer.log_likelihoods},
                                        {"pick", answer.pick},
                                        {"pick_normalised", answer.pick_normalised}}
                     .dump()
              << '\n'
              << std::flush;
    }
    progress.update(int64_t(end), concat("accuracy ", accuracy.share(accuracy.right)));
  }
  progress.finish();
  const bool written = items.is_open();
  items.close();
  if (written && items.fail()) throw Error(ErrorKind::failed, concat("cannot write '", options.output, "'"));
  if (written && !interrupt.signal()) name_new_file(options.output);
  return accuracy;
}

void report(const TaskOptions& options, const CommonOptions& common, const Accuracy& accuracy) {
  const double acc = accuracy.share(accuracy.right), norm = accuracy.share(accuracy.right_normalised);
  if (common.json) {
    nlohmann::ordered_json out = {{"model", options.model},
                                  {"task", options.task},
                                  {"items", accuracy.questions},
                                  {"acc", acc},
                                  {"acc_stderr", accuracy.standard_error(accuracy.right)}};
    if (accuracy.normalised)
      out.update({{"acc_norm", norm}, {"acc_norm_stderr", accuracy.standard_error(accuracy.right_normalised)}});
    std::cout << out.dump() << std::endl;
    return;
  }
  std::printf("task             %s, %lld items\naccuracy         %.4f +- %.4f\n", options.task.c_str(),
              (long long)accuracy.questions, acc, accuracy.standard_error(accuracy.right));
  if (accuracy.normalised)
    std::printf("by length        %.4f +- %.4f\n", norm, accuracy.standard_error(accuracy.right_normalised));
  std::fflush(stdout);
}

}  // namespace

int eval_task(const TaskOptions& options, const CommonOptions& common, Communicator& communicator) {
  const bool leads = communicator.rank() == 0;
  std::vector<Question> questions;
  agree(communicator, [&] {
    check_model(options.model, communicator.ranks(), reduction_kind(common));
    check_new_file(options.output);
    questions = read_questions(options.task, options.data, options.limit);
  });
  if (!common.quiet) print_short_preflight(communicator);
  LoadedModel model = load_on_ranks({options.model, options.dense, cache_options(common)}, common, communicator);
  const InterruptGuard interrupt;
  Accuracy accuracy;
  if (!leads) serve_steps(*model.engine, communicator);
  share_failure(communicator, [&] {
    if (!leads) return;
    const auto stop = [&] {
      StepPlan plan;
      plan.stop = true;
      broadcast_plan(communicator, plan);
    };
    try {
      accuracy = answer_all(options, common, questions, Tokenizer::open(options.model), *model.engine, communicator,
                            interrupt);
    } catch (const Error& error) {
      if (ends_in_order(error)) stop();
      throw;
    }
    stop();
  });
  if (leads && !interrupt.signal()) report(options, common, accuracy);
  return leads && interrupt.signal() ? 128 + interrupt.signal() : 0;
}

}  // namespace pleat
