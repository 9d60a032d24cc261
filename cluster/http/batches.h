#pragma once
// The batches of a router and what has become of each, in memory and on disk (file_store.h).
#include <map>
#include <string>

#include <nlohmann/json.hpp>

#include "cluster/http/file_store.h"

namespace pleat {

struct Batch {
  nlohmann::ordered_json shown;  // OpenAI's batch object
  std::string output, errors;    // ids of the files that it writes
  std::string owner;             // as a file's

  std::string id() const { return shown["id"]; }
  std::string status() const { return shown["status"]; }
  bool chat() const { return shown["endpoint"] == "/v1/chat/completions"; }
  bool cancelled() const { return shown.contains("cancelling_at"); }  // or will be
  bool over() const;                                                  // nothing more will happen to it
};

class Batches {
 public:
  static constexpr size_t kMost = 10'000;  // of one owner

  explicit Batches(FileStore& store);

  const std::map<std::string, Batch>& all() const { return all_; }
  Batch* find(const std::string& id);
  Batch* next();  // the oldest one that is not over; nullptr: there is none
  // One that is not over reads or writes this file.
  bool uses(const std::string& file) const;

  // From the body of POST /v1/batches. Error(invalid) in one sentence.
  Batch& create(const nlohmann::json& body, const std::string& owner);
  // Error(invalid) where it is over.
  void cancel(Batch& batch);
  // It has this status from now on. On disk on return, as what else has changed of it; where that cannot be written it
  // stays as it was.
  void turn(Batch& batch, const std::string& status);

 private:
  FileStore& store_;
  std::map<std::string, Batch> all_;
};

}  // namespace pleat
