#define PCRE2_CODE_UNIT_WIDTH 8
#include "core/text/regex.h"

#include <pcre2.h>

#include <string>

#include "kernels/check.h"

namespace pleat {
namespace {

std::string message_of(int error) {
  char text[256];
  pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(text), sizeof(text));
  return text;
}

PCRE2_SPTR bytes_of(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

template <auto release>
struct Release {
  template <class T>
  void operator()(T* pointer) const {
    release(pointer);
  }
};

}  // namespace

struct Regex::State {
  std::unique_ptr<pcre2_code, Release<pcre2_code_free>> code;
};

struct Regex::Searcher::State {
  const pcre2_code* code;
  std::unique_ptr<pcre2_match_data, Release<pcre2_match_data_free>> data;
};

Regex::Regex(std::string_view pattern) : state_(std::make_unique<State>()) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  state_->code.reset(pcre2_compile(bytes_of(pattern), pattern.size(), PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr));
  PLEAT_REQUIRE(state_->code, "the regular expression '", pattern, "' is not valid at its byte ", offset, ": ",
                message_of(error));
  // Where the system forbids generated code the interpreter finds the same, slower.
  pcre2_jit_compile(state_->code.get(), PCRE2_JIT_COMPLETE);
}
Regex::Regex(Regex&&) noexcept = default;
Regex::~Regex() = default;

Regex::Searcher::Searcher(const Regex& regex) : state_(std::make_unique<State>()) {
  state_->code = regex.state_->code.get();
  state_->data.reset(pcre2_match_data_create_from_pattern(state_->code, nullptr));
  if (!state_->data) throw std::bad_alloc();
}
Regex::Searcher::Searcher(Searcher&&) noexcept = default;
Regex::Searcher::~Searcher() = default;

std::optional<Regex::Match> Regex::Searcher::find(std::string_view text, size_t from) {
  // Checking the whole text again at every search would make splitting it quadratic.
  const int found =
      pcre2_match(state_->code, bytes_of(text), text.size(), from, PCRE2_NO_UTF_CHECK, state_->data.get(), nullptr);
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  PLEAT_REQUIRE(found > 0, "the text cannot be split into words: ", message_of(found));
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(state_->data.get());
  return Match{range[0], range[1]};
}

}  // namespace pleat
