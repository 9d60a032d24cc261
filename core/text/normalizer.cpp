#include "core/text/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "core/text/description.h"
#include "core/text/pattern.h"
#include "core/text/utf8.h"
#include "kernels/check.h"

namespace pleat {
namespace {

class NormalizerSequence : public Normalizer {
 public:
  explicit NormalizerSequence(const nlohmann::json& description) {
    PLEAT_REQUIRE(description.contains("normalizers") && description["normalizers"].is_array(),
                  "tokenizer.json: a Sequence normalizer has no normalizers");
    for (const nlohmann::json& part : description["normalizers"])
      if (auto normalizer = make_normalizer(part)) parts_.push_back(std::move(normalizer));
  }
  std::string apply(std::string_view text) const override {
    std::string out(text);
    for (const auto& part : parts_) out = part->apply(out);
    return out;
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> parts_;
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(const nlohmann::json& description) : prefix_(json_text(description, "prepend")) {}
  std::string apply(std::string_view text) const override { return text.empty() ? "" : concat(prefix_, text); }

 private:
  std::string prefix_;
};

class Replace : public Normalizer {
 public:
  explicit Replace(const nlohmann::json& description)
      : pattern_(description), content_(json_text(description, "content")) {}
  std::string apply(std::string_view text) const override {
    std::string out;
    pattern_.each(text, [&](std::string_view piece, bool match) { out += match ? std::string_view(content_) : piece; });
    return out;
  }

 private:
  Pattern pattern_;
  std::string content_;
};

// NFC, NFD, NFKC, NFKD, and lower case without special rules for languages.
class Unicode : public Normalizer {
 public:
  explicit Unicode(int options) : options_(options) {}
  std::string apply(std::string_view text) const override {
    std::string out;
    each_valid_run(
        text, [&](std::string_view run) { out += map(run); }, [&](std::string_view broken) { out += broken; });
    return out;
  }

 private:
  std::string map(std::string_view run) const {
    std::vector<utf8proc_int32_t> parts;
    for (size_t length = 0; !run.empty(); run.remove_prefix(length)) {
      const Utf8Step step = utf8_step(run);
      length = step.length;
      std::array<utf8proc_int32_t, 32> few;  // no character has more than 18 parts
      const utf8proc_ssize_t count = utf8proc_decompose_char(utf8proc_int32_t(step.codepoint), few.data(), few.size(),
                                                             utf8proc_option_t(options_), nullptr);
      PLEAT_REQUIRE(count >= 0 && size_t(count) <= few.size(),
                    "the text cannot be normalised: ", utf8proc_errmsg(std::min<utf8proc_ssize_t>(count, 0)));
      parts.insert(parts.end(), few.begin(), few.begin() + count);
    }
    order_marks(parts);
    const size_t count = parts.size();
    parts.push_back(0);  // room for the zero behind the text
    const utf8proc_ssize_t length =
        utf8proc_reencode(parts.data(), utf8proc_ssize_t(count), utf8proc_option_t(options_));
    PLEAT_REQUIRE(length >= 0, "the text cannot be normalised: ", utf8proc_errmsg(length));
    return {reinterpret_cast<const char*>(parts.data()), size_t(length)};
  }

  // By their classes, as utf8proc does it in time that grows with the square of a run's length.
  static void order_marks(std::vector<utf8proc_int32_t>& parts) {
    const auto mark_class = [](utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; };
    const auto is_mark = [&](utf8proc_int32_t c) { return mark_class(c) != 0; };
    for (auto begin = parts.begin(); (begin = std::find_if(begin, parts.end(), is_mark)) != parts.end();) {
      const auto end = std::find_if_not(begin, parts.end(), is_mark);
      std::stable_sort(begin, end, [&](auto a, auto b) { return mark_class(a) < mark_class(b); });
      begin = end;
    }
  }

  int options_;
};

class Lowercase : public Normalizer {
 public:
  std::string apply(std::string_view text) const override {
    std::string out;
    while (!text.empty()) {
      const Utf8Step step = utf8_step(text);
      if (step.kind == Utf8Step::valid)
        append_utf8(char32_t(utf8proc_tolower(utf8proc_int32_t(step.codepoint))), out);
      else
        out += text.substr(0, step.length);
      text.remove_prefix(step.length);
    }
    return out;
  }
};

// White space at the ends.
class Strip : public Normalizer {
 public:
  explicit Strip(const nlohmann::json& description)
      : left_(json_flag(description, "strip_left", true)), right_(json_flag(description, "strip_right", true)) {}
  std::string apply(std::string_view text) const override {
    size_t begin = 0, end = 0;  // of what is kept
    bool leading = left_;
    for (size_t at = 0; at < text.size();) {
      const Utf8Step step = utf8_step(text.substr(at));
      const bool space = step.kind == Utf8Step::valid && is_white_space(step.codepoint);
      at += step.length;
      if (space && leading) begin = at;
      if (!space) leading = false;
      if (!space || !right_) end = at;
    }
    return std::string(text.substr(begin, end > begin ? end - begin : 0));
  }

 private:
  bool left_, right_;
};

}  // namespace

std::unique_ptr<Normalizer> make_normalizer(const nlohmann::json& description) {
  if (description.is_null()) return nullptr;
  PLEAT_REQUIRE(description.is_object() && description.contains("type"),
                "tokenizer.json has a normalizer without type");
  const auto& type = description["type"];
  constexpr int kStable = UTF8PROC_STABLE, kCompatible = UTF8PROC_COMPAT;
  if (type == "Sequence") return std::make_unique<NormalizerSequence>(description);
  if (type == "Prepend") return std::make_unique<Prepend>(description);
  if (type == "Replace") return std::make_unique<Replace>(description);
  if (type == "NFC") return std::make_unique<Unicode>(kStable | UTF8PROC_COMPOSE);
  if (type == "NFD") return std::make_unique<Unicode>(kStable | UTF8PROC_DECOMPOSE);
  if (type == "NFKC") return std::make_unique<Unicode>(kStable | UTF8PROC_COMPOSE | kCompatible);
  if (type == "NFKD") return std::make_unique<Unicode>(kStable | UTF8PROC_DECOMPOSE | kCompatible);
  if (type == "Lowercase") return std::make_unique<Lowercase>();
  if (type == "Strip") return std::make_unique<Strip>(description);
  throw Error(ErrorKind::unimplemented, concat("tokenizer.json asks for the unknown normalizer ", type.dump()));
}

}  // namespace pleat
