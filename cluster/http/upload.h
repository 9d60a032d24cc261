#pragma once
// A file on its way to the store, written as it comes, on whatever thread may wait for the disk.
#include "cluster/http/file_store.h"
#include "cluster/http/multipart.h"

namespace pleat {

// The parts of POST /v1/files: "file" and "purpose".
class Upload final : private Multipart::Parts {
 public:
  // Error(invalid) where the body is none of parts, Error(failed) where nothing can be written.
  Upload(const FileStore& store, const std::string& content_type, const std::string& owner);
  ~Upload();  // what was not finished is gone
  Upload(const Upload&) = delete;

  // The body's next bytes. Error(invalid), Error(failed).
  void take(std::string_view bytes) { parts_.take(bytes); }
  // The body has ended: the file is on disk and described there. Error(invalid) where something is missing.
  StoredFile finish();

 private:
  void begin(const std::string& name, const std::string& filename) override;
  void data(std::string_view bytes) override;

  const FileStore& store_;
  Multipart parts_;
  StoredFile file_;
  const std::string partial_;
  int out_ = -1;
  enum class In { nothing, file, purpose } in_ = In::nothing;
  bool has_file_ = false, in_line_ = false;  // a line that is not blank has begun
};

}  // namespace pleat
