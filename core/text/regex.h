#pragma once
#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>

namespace pleat {

// A Perl-style pattern over Unicode text, compiled once. Safe to use from several threads.
class Regex {
 public:
  explicit Regex(std::string_view pattern);  // Error(invalid) naming the pattern and what is wrong with it
  Regex(Regex&&) noexcept;
  ~Regex();

  struct Match {
    size_t begin;
    size_t end;
  };
  // One search at a time; not shared between threads.
  class Searcher {
   public:
    explicit Searcher(const Regex& regex);
    Searcher(Searcher&&) noexcept;
    ~Searcher();
    // The first match at or after `from`. text is well-formed UTF-8 and `from` is the beginning of a character.
    std::optional<Match> find(std::string_view text, size_t from);

   private:
    struct State;
    std::unique_ptr<State> state_;
  };

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pleat
