#include "core/text/byte_level.h"

#include <array>

#include "core/text/description.h"
#include "core/text/utf8.h"
#include "kernels/check.h"

namespace pleat {
namespace {

constexpr size_t kAlphabetEnd = 0x100 + 68;  // 68 bytes have no printable character of their own

struct Alphabet {
  std::array<char32_t, 256> character{};
  std::array<int, kAlphabetEnd> byte{};

  constexpr Alphabet() {
    byte.fill(-1);
    char32_t next = 0x100;
    for (unsigned value = 0; value < 256; ++value) {
      const bool printable =
          (value >= 0x21 && value <= 0x7e) || (value >= 0xa1 && value <= 0xac) || (value >= 0xae && value <= 0xff);
      character[value] = printable ? char32_t(value) : next++;
      byte[character[value]] = int(value);
    }
  }
};
constexpr Alphabet kAlphabet;

// Contractions, then letters, digits or other signs each with at most one space in front, then white space, whose last
// character is left to the word behind it.
std::string gpt2_words() {
  const std::string space(kWhiteSpaceClass);
  return R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^)" + space + R"(\p{L}\p{N}]+|[)" + space + "]+(?![^" + space +
         "])|[" + space + "]+";
}

}  // namespace

char32_t byte_level_character(uint8_t byte) { return kAlphabet.character[byte]; }

std::optional<std::string> from_byte_level(std::string_view entry) {
  std::string bytes;
  while (!entry.empty()) {
    const Utf8Step step = utf8_step(entry);
    if (step.kind != Utf8Step::valid || step.codepoint >= kAlphabetEnd || kAlphabet.byte[step.codepoint] < 0) {
      return std::nullopt;
    }
    bytes += char(kAlphabet.byte[step.codepoint]);
    entry.remove_prefix(step.length);
  }
  return bytes;
}

std::string to_byte_level(std::string_view bytes) {
  std::string entry;
  for (const char byte : bytes) append_utf8(byte_level_character(uint8_t(byte)), entry);
  return entry;
}

ByteLevelSplit::ByteLevelSplit(const nlohmann::json& description)
    : add_prefix_space_(json_flag(description, "add_prefix_space", true)) {
  if (json_flag(description, "use_regex", true)) words_.emplace(Regex(gpt2_words()));
}

void ByteLevelSplit::split(std::string_view text, bool, const Emit& emit) const {
  std::string prefixed;
  if (add_prefix_space_ && !text.starts_with(' ')) {
    prefixed = concat(' ', text);
    text = prefixed;
  }
  if (!words_) return emit(text);
  words_->each(text, [&](std::string_view piece, bool) { emit(piece); });
}

}  // namespace pleat
