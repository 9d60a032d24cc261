#include "core/text/pretokenizer.h"

#include "core/text/byte_level.h"
#include "kernels/check.h"

namespace pleat {

std::unique_ptr<PreTokenizer> make_pretokenizer(const nlohmann::json& description) {
  PLEAT_REQUIRE(description.is_object() && description.contains("type"), "tokenizer.json has no pre_tokenizer");
  const auto& type = description["type"];
  if (type == "ByteLevel") return std::make_unique<ByteLevelSplit>(description);
  throw Error(ErrorKind::unimplemented, concat("tokenizer.json asks for the unknown pre_tokenizer ", type));
}

}  // namespace pleat
