#include "core/text/split.h"

#include <vector>

#include "core/text/description.h"
#include "kernels/check.h"

namespace pleat {
namespace {

SplitBehaviour behaviour_of(const nlohmann::json& description, const char* otherwise) {
  const std::string name = description.contains("behavior") ? json_text(description, "behavior") : otherwise;
  if (name == "Removed") return SplitBehaviour::removed;
  if (name == "Isolated") return SplitBehaviour::isolated;
  if (name == "MergedWithPrevious") return SplitBehaviour::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehaviour::merged_with_next;
  if (name == "Contiguous") return SplitBehaviour::contiguous;
  throw Error(ErrorKind::unimplemented, concat("tokenizer.json asks for the unknown split behavior '", name, "'"));
}

// The expression with `#` for the inside of the white-space set.
Regex with_spaces(std::string expression) {
  for (size_t at; (at = expression.find('#')) != std::string::npos;) expression.replace(at, 1, kWhiteSpaceClass);
  return Regex(expression);
}

}  // namespace

Split::Split(Pattern pattern, SplitBehaviour behaviour, bool invert)
    : pattern_(std::move(pattern)), behaviour_(behaviour), invert_(invert) {}

void Split::split(std::string_view text, bool, const Emit& emit) const {
  struct Piece {
    std::string_view text;
    bool match;
  };
  // What follows joins the piece before it; both are parts of one text, side by side.
  const auto join = [](std::string_view a, std::string_view b) {
    return std::string_view(a.data(), size_t(b.data() + b.size() - a.data()));
  };
  std::vector<Piece> pieces;
  bool merge_next = false;  // the piece before is a match that waits for what follows it
  pattern_.each(text, [&](std::string_view piece, bool match) {
    match = match != invert_;
    const bool previous = !pieces.empty() && pieces.back().match;
    switch (behaviour_) {
      case SplitBehaviour::removed:
        if (!match) pieces.push_back({piece, match});
        return;
      case SplitBehaviour::isolated:
        pieces.push_back({piece, match});
        return;
      case SplitBehaviour::contiguous:
        if (!pieces.empty() && previous == match)
          pieces.back().text = join(pieces.back().text, piece);
        else
          pieces.push_back({piece, match});
        return;
      case SplitBehaviour::merged_with_previous:
        if (match && !pieces.empty() && !previous)
          pieces.back() = {join(pieces.back().text, piece), true};
        else
          pieces.push_back({piece, match});
        return;
      case SplitBehaviour::merged_with_next:
        if (!match && merge_next)
          pieces.back() = {join(pieces.back().text, piece), false};
        else
          pieces.push_back({piece, match});
        merge_next = match;
        return;
    }
  });
  for (const Piece& piece : pieces) emit(piece.text);
}

std::unique_ptr<PreTokenizer> make_split(const nlohmann::json& description) {
  const auto& type = description["type"];
  if (type == "Split")
    return std::make_unique<Split>(Pattern(description), behaviour_of(description, "Isolated"),
                                   json_flag(description, "invert", false));
  if (type == "Digits")
    return std::make_unique<Split>(
        Pattern(Regex(R"(\p{N})")),
        json_flag(description, "individual_digits", false) ? SplitBehaviour::isolated : SplitBehaviour::contiguous,
        false);
  if (type == "Punctuation")
    return std::make_unique<Split>(Pattern(Regex(R"([\p{P}$+<=>^`|~])")), behaviour_of(description, "Isolated"), false);
  if (type == "Whitespace") {
    const std::string word = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control})";
    return std::make_unique<Split>(Pattern(with_spaces("[" + word + "]+|[^" + word + "#]+")), SplitBehaviour::removed,
                                   true);
  }
  if (type == "WhitespaceSplit")
    return std::make_unique<Split>(Pattern(with_spaces("[#]")), SplitBehaviour::removed, false);
  return nullptr;
}

Metaspace::Metaspace(const nlohmann::json& description)
    : replacement_(json_text(description, "replacement")),
      prepend_(json_flag(description, "add_prefix_space", true) ? Prepend::always : Prepend::never),
      split_(json_flag(description, "split", true)) {
  PLEAT_REQUIRE(!replacement_.empty(), "tokenizer.json: Metaspace replaces spaces by nothing");
  if (!description.contains("prepend_scheme")) return;
  const std::string scheme = json_text(description, "prepend_scheme");
  PLEAT_REQUIRE(scheme == "always" || scheme == "first" || scheme == "never",
                "tokenizer.json: unknown prepend_scheme '", scheme, "', known: always, first, never");
  prepend_ = scheme == "always" ? Prepend::always : scheme == "first" ? Prepend::first : Prepend::never;
}

void Metaspace::split(std::string_view text, bool at_start, const Emit& emit) const {
  std::string visible;
  for (const char c : text) c == ' ' ? visible += replacement_ : visible += c;
  const bool wanted = prepend_ == Prepend::always || (prepend_ == Prepend::first && at_start);
  if (wanted && !visible.starts_with(replacement_)) visible.insert(0, replacement_);
  if (!split_) return emit(visible);
  const std::string_view all = visible;
  size_t begin = 0;
  while (begin < all.size()) {
    size_t next = all.find(replacement_, begin + 1);
    if (next == std::string_view::npos) next = all.size();
    emit(all.substr(begin, next - begin));
    begin = next;
  }
}

}  // namespace pleat
