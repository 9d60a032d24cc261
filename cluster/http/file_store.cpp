#include "cluster/http/file_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "cluster/http/openai_format.h"
#include "kernels/check.h"

namespace pleat {
namespace {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr const char* kPartial = ".part";  // not whole yet

[[noreturn]] void fail(const std::string& path) {
  throw Error(ErrorKind::failed, concat("cannot write '", path, "': ", std::strerror(errno)));
}

void sync(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool done = file >= 0 && fsync(file) == 0;
  if (file >= 0) close(file);
  if (!done) fail(path);
}

}  // namespace

FileStore::FileStore(const std::string& folder) : folder_(folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  const std::string lock = folder + "/lock";
  lock_ = open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  PLEAT_REQUIRE(lock_ >= 0, "cannot write files in '", folder, "': ", std::strerror(errno));
  try {
    PLEAT_REQUIRE(flock(lock_, LOCK_EX | LOCK_NB) == 0, "another router keeps its files in '", folder, "'");
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().extension() == kPartial) fs::remove(entry.path());
    for (const ordered_json& known : read("file-")) {
      StoredFile file{known.at("id"),    known.at("filename"),   known.at("purpose"),     known.at("bytes"),
                      known.at("lines"), known.at("created_at"), known.value("owner", "")};
      files_.emplace(file.id, file);
    }
  } catch (const nlohmann::json::exception&) {
    close(lock_);
    throw Error(ErrorKind::invalid, concat("'", folder, "' holds files that are not a router's"));
  } catch (...) {
    close(lock_);
    throw;
  }
}

FileStore::~FileStore() { close(lock_); }

const StoredFile* FileStore::find(const std::string& id) const {
  const auto found = files_.find(id);
  return found == files_.end() ? nullptr : &found->second;
}

bool FileStore::full(const std::string& owner) const {
  const auto is_own = [&](const auto& entry) { return entry.second.owner == owner; };
  return size_t(std::ranges::count_if(files_, is_own)) >= kMostFiles;
}

void FileStore::describe(const StoredFile& file) const {
  ordered_json known = file_json(file);
  known["lines"] = file.lines;
  known["owner"] = file.owner;
  write(file.id, known);
}

void FileStore::remove(const std::string& id) {
  unlink((path(id) + ".json").c_str());
  unlink(path(id).c_str());
  sync(folder_);
  files_.erase(id);
}

void FileStore::write(const std::string& id, const ordered_json& value) const {
  const std::string whole = path(id) + ".json", partial = whole + kPartial, text = dump(value) + "\n";
  const int file = open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (file < 0) fail(partial);
  const bool done = ::write(file, text.data(), text.size()) == ssize_t(text.size()) && fsync(file) == 0;
  close(file);
  if (!done || rename(partial.c_str(), whole.c_str()) != 0) fail(partial);
  sync(folder_);
}

std::vector<ordered_json> FileStore::read(const std::string& prefix) const {
  std::vector<ordered_json> all;
  for (const auto& entry : fs::directory_iterator(folder_)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with(prefix) || entry.path().extension() != ".json") continue;
    std::ifstream in(entry.path());
    all.push_back(ordered_json::parse(in, nullptr, false));
    PLEAT_REQUIRE(all.back().is_object(), "'", entry.path().string(), "' is not what a router wrote there");
  }
  return all;
}

ordered_json file_json(const StoredFile& file) {
  return {{"id", file.id},         {"object", "file"},        {"bytes", file.bytes},  {"created_at", file.created},
          {"filename", file.name}, {"purpose", file.purpose}, {"status", "processed"}};
}

}  // namespace pleat
