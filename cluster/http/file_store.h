#pragma once
// Files that clients sent and batches wrote, in one folder: FILE_ID holds the bytes and FILE_ID.json what is known of
// them, BATCH_ID.json a batch. Small files are replaced as a whole, so whatever happens to the process each is there
// either as before or as after. A client's words are looked up among what is there; they never become a path.
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace pleat {

struct StoredFile {
  std::string id;
  std::string name;     // the client's
  std::string purpose;  // "batch", "batch_output"
  int64_t bytes = 0;
  int64_t lines = 0;    // that are not blank
  int64_t created = 0;  // seconds since 1970
  std::string owner;    // who alone may see it: the digest of a key; empty where none are asked for
};

class FileStore {
 public:
  static constexpr size_t kMostFiles = 10'000;  // of one owner

  // Makes the folder where there is none, and locks it against another router. Error(invalid) where that cannot be.
  explicit FileStore(const std::string& folder);
  ~FileStore();
  FileStore(const FileStore&) = delete;

  const std::map<std::string, StoredFile>& files() const { return files_; }
  const StoredFile* find(const std::string& id) const;  // nullptr: there is none

  // This owner has as many as may be.
  bool full(const std::string& owner) const;

  // A file whose bytes stand at path(id), on disk, is there when it is described there, which may be done on any
  // thread, and then added. Error(failed) where it cannot be kept.
  void describe(const StoredFile& file) const;
  void add(const StoredFile& file) { files_[file.id] = file; }
  void remove(const std::string& id);

  // These may be called on any thread. An id is one that this store gave, never one that a client did.
  std::string path(const std::string& id) const { return folder_ + "/" + id; }
  // id.json, on disk on return.
  void write(const std::string& id, const nlohmann::ordered_json& value) const;
  // All of these whose id begins so. Error(invalid) where one cannot be read.
  std::vector<nlohmann::ordered_json> read(const std::string& prefix) const;

 private:
  std::string folder_;
  int lock_ = -1;
  std::map<std::string, StoredFile> files_;
};

// {"id", "object": "file", "bytes", "created_at", "filename", "purpose", "status"}.
nlohmann::ordered_json file_json(const StoredFile& file);

}  // namespace pleat
