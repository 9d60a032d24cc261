#include "launcher/multiple_choice.h"

#include <algorithm>
#include <fstream>

#include <nlohmann/json.hpp>

#include "core/text/utf8.h"
#include "kernels/check.h"

namespace pleat {
namespace {

using nlohmann::json;

std::string text_of(const json& item, const char* key) {
  const auto found = item.find(key);
  PLEAT_REQUIRE(found != item.end() && found->is_string(), "no text '", key, "'");
  return found->get<std::string>();
}

double characters(std::string_view text) {
  int64_t count = 0;
  for (size_t length = 0; !text.empty(); text.remove_prefix(length), ++count) length = utf8_step(text).length;
  return double(count);
}

void add_choices(Question& question, const std::string& context, const std::vector<std::string>& choices) {
  for (const std::string& choice : choices) {
    question.choices.push_back({context, " " + choice});
    question.lengths.push_back(characters(choice));
  }
}

Question arc(const json& item) {
  Question question;
  question.id = text_of(item, "id");
  const json choices = item.value("choices", json());
  PLEAT_REQUIRE(choices.is_object() && choices.contains("text") && choices.contains("label") &&
                    choices["text"].is_array() && choices["text"].size() == choices["label"].size(),
                "no 'choices' with a 'label' for each 'text'");
  std::vector<std::string> texts;
  for (const json& text : choices["text"]) {
    PLEAT_REQUIRE(text.is_string(), "a choice is not a text");
    texts.push_back(text.get<std::string>());
  }
  const auto key = std::find(choices["label"].begin(), choices["label"].end(), text_of(item, "answerKey"));
  PLEAT_REQUIRE(key != choices["label"].end(), "the answerKey is none of the labels");
  question.gold = size_t(key - choices["label"].begin());
  add_choices(question, "Question: " + text_of(item, "question") + "\nAnswer:", texts);
  return question;
}

Question piqa(const json& item) {
  Question question;
  PLEAT_REQUIRE(
      item.contains("label") && item["label"].is_number_integer() && (item["label"] == 0 || item["label"] == 1),
      "'label' is neither 0 nor 1");
  question.gold = item["label"].get<size_t>();
  add_choices(question,
              "Question: " + text_of(item, "goal") + "\nAnswer:", {text_of(item, "sol1"), text_of(item, "sol2")});
  return question;
}

Question boolq(const json& item) {
  Question question;
  const json answer = item.contains("answer") ? item["answer"] : item.value("label", json());
  PLEAT_REQUIRE(answer.is_boolean() || answer == 0 || answer == 1, "'answer' is neither true nor false");
  question.gold = answer == true || answer == 1 ? 1 : 0;
  add_choices(question,
              text_of(item, "passage") + "\nQuestion: " + text_of(item, "question") + "?\nAnswer:", {"no", "yes"});
  question.lengths.clear();
  return question;
}

// The option stands in the context; what follows the gap is the continuation of both.
Question winogrande(const json& item) {
  Question question;
  const std::string sentence = text_of(item, "sentence"), answer = text_of(item, "answer");
  const size_t gap = sentence.find('_');
  PLEAT_REQUIRE(gap != std::string::npos, "the sentence has no gap '_'");
  PLEAT_REQUIRE(answer == "1" || answer == "2", "'answer' is neither \"1\" nor \"2\"");
  question.gold = answer == "2";
  std::string rest = sentence.substr(gap + 1);
  const size_t first = rest.find_first_not_of(" \t\n"), last = rest.find_last_not_of(" \t\n");
  PLEAT_REQUIRE(first != std::string::npos, "nothing follows the gap");
  rest = rest.substr(first, last - first + 1);
  for (const char* option : {"option1", "option2"})
    question.choices.push_back({sentence.substr(0, gap) + text_of(item, option), " " + rest});
  return question;
}

size_t best(const std::vector<double>& values) {
  return size_t(std::max_element(values.begin(), values.end()) - values.begin());
}

}  // namespace

std::vector<Question> read_questions(const std::string& task, const std::string& file, int64_t limit) {
  const bool is_arc = task == "arc_easy" || task == "arc_challenge";
  Question (*const read)(const json&) = is_arc                 ? arc
                                        : task == "piqa"       ? piqa
                                        : task == "boolq"      ? boolq
                                        : task == "winogrande" ? winogrande
                                                               : nullptr;
  PLEAT_REQUIRE(read, "unknown task '", task, "', known: arc_easy, arc_challenge, piqa, boolq, winogrande");
  std::ifstream in(file);
  PLEAT_REQUIRE(in.is_open(), "cannot read '", file, "'");
  std::vector<Question> questions;
  int64_t number = 0;
  for (std::string line; (limit == 0 || int64_t(questions.size()) < limit) && std::getline(in, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    questions.push_back(with_context(concat("'", file, "' line ", number), [&] {
      const json item = json::parse(line, nullptr, false);
      PLEAT_REQUIRE(item.is_object(), "not a JSON object");
      Question question = read(item);
      if (question.id.empty()) question.id = std::to_string(number - 1);
      return question;
    }));
  }
  PLEAT_REQUIRE(!questions.empty(), "'", file, "' has no items");
  return questions;
}

Answer answer_of(const Question& question, std::vector<double> log_likelihoods) {
  Answer answer;
  answer.log_likelihoods = std::move(log_likelihoods);
  answer.pick = answer.pick_normalised = best(answer.log_likelihoods);
  if (question.lengths.empty()) return answer;
  std::vector<double> normalised = answer.log_likelihoods;
  for (size_t i = 0; i < normalised.size(); ++i) normalised[i] /= std::max(1.0, question.lengths[i]);
  answer.pick_normalised = best(normalised);
  return answer;
}

}  // namespace pleat
