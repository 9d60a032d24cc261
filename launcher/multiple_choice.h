#pragma once
// Multiple-choice tasks with the prompts of the lm-evaluation-harness (EleutherAI), zero examples in front.
#include <string>
#include <vector>

namespace pleat {

struct Choice {
  std::string context, continuation;
};

struct Question {
  std::string id;
  size_t gold = 0;
  std::vector<Choice> choices;
  std::vector<double> lengths;  // characters of each choice, by which scores are normalised; empty: the task does not
};

// arc_easy, arc_challenge, piqa, boolq, winogrande. Error(invalid) naming the task or the line.
std::vector<Question> read_questions(const std::string& task, const std::string& file, int64_t limit);

struct Answer {
  std::vector<double> log_likelihoods;
  size_t pick = 0;             // the likeliest
  size_t pick_normalised = 0;  // by length; the same where the task has no lengths
};
Answer answer_of(const Question& question, std::vector<double> log_likelihoods);

}  // namespace pleat
