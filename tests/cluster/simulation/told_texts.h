#pragma once
// What the HTTP door is asked, and what its answer says, compared with what it has to say as it comes.
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "tests/cluster/simulation/simulated_client.h"

namespace pleat::test {

// The body of a request for the plan's texts.
std::string openai_body(const ClientPlan& plan);

class ToldTexts {
 public:
  explicit ToldTexts(const ClientPlan& plan);

  // The next bytes of a 200's body, and its end. What is wrong; empty: nothing.
  std::string take(std::string_view bytes);
  std::string end();
  // The body of another answer: an error.
  std::string take_error(const std::string& body);

  bool begun() const { return begun_; }
  size_t tokens() const { return tokens_; }          // that came with their log probabilities
  const std::string& code() const { return code_; }  // of an error that it ended with; empty: none
  const std::string& message() const { return message_; }

 private:
  struct Text {
    WholeText whole;
    std::string text;
    size_t tokens = 0;
    bool ended = false;
  };
  std::string read_event(std::string_view event);
  std::string read_choice(const nlohmann::json& choice);
  std::string read_usage(const nlohmann::json& usage);
  std::string all_ended() const;

  const ClientPlan& plan_;
  std::vector<Text> texts_;
  std::string held_, code_, message_;
  size_t tokens_ = 0;
  bool begun_ = false, done_ = false, used_ = false;
};

}  // namespace pleat::test
