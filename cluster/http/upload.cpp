#include "cluster/http/upload.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>

#include "cluster/http/openai_format.h"
#include "kernels/check.h"

namespace pleat {
namespace {

constexpr size_t kNameBytes = 255;
constexpr size_t kPurposeBytes = 32;

}  // namespace

Upload::Upload(const FileStore& store, const std::string& content_type, const std::string& owner)
    : store_(store), parts_(content_type, *this), partial_(store.path(new_id("upload-")) + ".part") {
  file_.id = new_id("file-");
  file_.created = std::time(nullptr);
  file_.owner = owner;
  out_ = open(partial_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (out_ < 0) throw Error(ErrorKind::failed, concat("cannot keep a file: ", std::strerror(errno)));
}

Upload::~Upload() {
  close(out_);
  unlink(partial_.c_str());
}

void Upload::begin(const std::string& name, const std::string& filename) {
  in_ = name == "file" ? In::file : In::purpose;
  PLEAT_REQUIRE(name == "file" || name == "purpose", "'", name, "' is not supported; a file has 'file' and 'purpose'");
  PLEAT_REQUIRE(in_ == In::file ? !has_file_ : file_.purpose.empty(), "'", name, "' comes twice");
  if (in_ == In::purpose) return;
  PLEAT_REQUIRE(filename.size() <= kNameBytes, "the filename has more than ", kNameBytes, " bytes");
  file_.name = filename.empty() ? "file" : filename;
  has_file_ = true;
}

void Upload::data(std::string_view bytes) {
  if (in_ == In::purpose) {
    PLEAT_REQUIRE(file_.purpose.size() + bytes.size() <= kPurposeBytes, "'purpose' must be \"batch\"");
    file_.purpose += bytes;
    return;
  }
  for (const char c : bytes) {
    if (!in_line_ && c != ' ' && c != '\t' && c != '\r' && c != '\n') {
      in_line_ = true;
      ++file_.lines;
    }
    if (c == '\n') in_line_ = false;
  }
  file_.bytes += int64_t(bytes.size());
  while (!bytes.empty()) {
    const ssize_t written = write(out_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) throw Error(ErrorKind::failed, concat("cannot keep the file: ", std::strerror(errno)));
    bytes.remove_prefix(size_t(written));
  }
}

StoredFile Upload::finish() {
  PLEAT_REQUIRE(parts_.ended(), "the body ends before its last boundary");
  PLEAT_REQUIRE(has_file_, "'file' is missing");
  PLEAT_REQUIRE(file_.purpose == "batch", "'purpose' must be \"batch\"");
  if (fsync(out_) != 0 || rename(partial_.c_str(), store_.path(file_.id).c_str()) != 0)
    throw Error(ErrorKind::failed, concat("cannot keep the file: ", std::strerror(errno)));
  try {
    store_.describe(file_);
  } catch (...) {
    unlink((store_.path(file_.id) + ".json").c_str());
    unlink(store_.path(file_.id).c_str());
    throw;
  }
  return file_;
}

}  // namespace pleat
