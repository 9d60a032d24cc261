#include "cluster/http/batches.h"

#include <algorithm>
#include <ctime>

#include "cluster/http/openai_format.h"
#include "kernels/check.h"

namespace pleat {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr int64_t kWindow = 24 * 3600;                                     // seconds
constexpr size_t kMetadata = 16, kMetadataName = 64, kMetadataText = 512;  // entries, bytes of a name and of a text

std::string text_field(const json& body, const char* name) {
  const json value = body.value(name, json());
  PLEAT_REQUIRE(!value.is_null(), "'", name, "' is missing");
  PLEAT_REQUIRE(value.is_string(), "'", name, "' must be a text");
  return value.get<std::string>();
}

json metadata_of(const json& body) {
  json metadata = body.value("metadata", json());
  PLEAT_REQUIRE(metadata.is_null() || (metadata.is_object() && metadata.size() <= kMetadata),
                "'metadata' must be an object of at most ", kMetadata, " texts");
  for (const auto& [name, value] : metadata.items()) {
    PLEAT_REQUIRE(name.size() <= kMetadataName, "a name in 'metadata' has ", name.size(), " bytes, more than ",
                  kMetadataName);
    PLEAT_REQUIRE(value.is_string(), "'", name, "' of 'metadata' must be a text");
    PLEAT_REQUIRE(value.get_ref<const std::string&>().size() <= kMetadataText, "'", name,
                  "' of 'metadata' has more than ", kMetadataText, " bytes");
  }
  return metadata;
}

}  // namespace

bool Batch::over() const {
  const std::string now = status();
  return now == "completed" || now == "failed" || now == "expired" || now == "cancelled";
}

Batches::Batches(FileStore& store) : store_(store) {
  for (ordered_json& state : store.read("batch_")) {
    Batch batch;
    for (const char* name : {"id", "status", "endpoint", "input_file_id", "created_at", "expires_at", "pleat"})
      PLEAT_REQUIRE(state.contains(name), "a batch on disk has no '", name, "'");
    batch.output = state["pleat"].value("output", "");
    batch.errors = state["pleat"].value("errors", "");
    batch.owner = state["pleat"].value("owner", "");
    state.erase("pleat");
    batch.shown = std::move(state);
    all_.emplace(batch.id(), std::move(batch));
  }
}

Batch* Batches::find(const std::string& id) {
  const auto found = all_.find(id);
  return found == all_.end() ? nullptr : &found->second;
}

Batch* Batches::next() {
  Batch* oldest = nullptr;
  for (auto& [id, batch] : all_)
    if (!batch.over() && (!oldest || batch.shown["created_at"] < oldest->shown["created_at"])) oldest = &batch;
  return oldest;
}

bool Batches::uses(const std::string& file) const {
  for (const auto& [id, batch] : all_)
    if (!batch.over() && (batch.shown["input_file_id"] == file || batch.output == file || batch.errors == file))
      return true;
  return false;
}

Batch& Batches::create(const json& body, const std::string& owner) {
  for (const auto& [name, value] : body.items())
    PLEAT_REQUIRE(value.is_null() || name == "input_file_id" || name == "endpoint" || name == "completion_window" ||
                      name == "metadata",
                  "'", name, "' is not supported");
  const std::string endpoint = text_field(body, "endpoint");
  PLEAT_REQUIRE(endpoint == "/v1/completions" || endpoint == "/v1/chat/completions",
                "'endpoint' must be \"/v1/completions\" or \"/v1/chat/completions\"");
  PLEAT_REQUIRE(text_field(body, "completion_window") == "24h", "'completion_window' must be \"24h\"");
  const std::string id = text_field(body, "input_file_id");
  const StoredFile* input = store_.find(id);
  PLEAT_REQUIRE(input && input->owner == owner, "there is no file '", id, "'");
  PLEAT_REQUIRE(input->purpose == "batch" && input->lines > 0, "the input file is none of a batch, or has no lines");
  const auto is_own = [&](const auto& entry) { return entry.second.owner == owner; };
  PLEAT_REQUIRE(size_t(std::ranges::count_if(all_, is_own)) < kMost, "there are ", kMost,
                " batches, and no more are kept");
  const int64_t now = std::time(nullptr);
  Batch batch;
  batch.output = new_id("file-");
  batch.errors = new_id("file-");
  batch.owner = owner;
  batch.shown = {{"id", new_id("batch_")},
                 {"object", "batch"},
                 {"endpoint", endpoint},
                 {"errors", nullptr},
                 {"input_file_id", input->id},
                 {"completion_window", "24h"},
                 {"status", ""},
                 {"output_file_id", nullptr},
                 {"error_file_id", nullptr},
                 {"created_at", now},
                 {"expires_at", now + kWindow},
                 {"request_counts", {{"total", input->lines}, {"completed", 0}, {"failed", 0}}},
                 {"metadata", metadata_of(body)}};
  Batch& kept = all_.emplace(batch.id(), std::move(batch)).first->second;
  try {
    turn(kept, "validating");
  } catch (...) {
    all_.erase(kept.id());
    throw;
  }
  return kept;
}

void Batches::cancel(Batch& batch) {
  PLEAT_REQUIRE(!batch.over() && batch.status() != "finalizing", "the batch is ", batch.status(), " already");
  turn(batch, "cancelling");
}

void Batches::turn(Batch& batch, const std::string& status) {
  ordered_json shown = batch.shown;
  shown["status"] = status;
  shown[status + "_at"] = std::time(nullptr);
  ordered_json state = shown;
  state["pleat"] = {{"output", batch.output}, {"errors", batch.errors}, {"owner", batch.owner}};
  store_.write(batch.id(), state);
  batch.shown = std::move(shown);
}

}  // namespace pleat
