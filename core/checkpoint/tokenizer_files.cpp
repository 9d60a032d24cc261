#include "core/checkpoint/tokenizer_files.h"

#include "core/checkpoint/file.h"
#include "core/checkpoint/gguf_model.h"
#include "core/checkpoint/json_file.h"
#include "kernels/check.h"

namespace pleat {
namespace {

// Newer folders keep the chat template in a file of its own.
void read_template_file(const std::filesystem::path& path, nlohmann::json& config) {
  std::error_code unreadable;
  if (!std::filesystem::exists(path, unreadable)) return;
  constexpr uint64_t kLargest = 1 << 20;
  const File file(path);
  PLEAT_REQUIRE(file.size() <= kLargest, path, " is larger than a chat template can be");
  std::string text(size_t(file.size()), '\0');
  file.read(0, text.size(), text.data());
  if (config.is_null()) config = nlohmann::json::object();
  config["chat_template"] = text;
}

}  // namespace

TokenizerFiles read_tokenizer_files(const std::filesystem::path& model) {
  std::error_code unreadable;
  if (!std::filesystem::is_directory(model, unreadable)) {
    const GgufFile gguf = read_gguf(File(model), true);
    return with_context(concat(model), [&] {
      return TokenizerFiles{gguf_tokenizer(gguf), gguf_tokenizer_config(gguf)};
    });
  }
  TokenizerFiles files;
  files.tokenizer = read_json_file(model / "tokenizer.json");
  if (const auto path = model / "tokenizer_config.json"; std::filesystem::exists(path, unreadable))
    files.config = read_json_file(path);
  read_template_file(model / "chat_template.jinja", files.config);
  return files;
}

}  // namespace pleat
