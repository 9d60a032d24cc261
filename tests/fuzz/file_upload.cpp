// Files that clients send: the first line is the Content-Type, the rest the body. It comes apart the same however it is
// cut into pieces, and a file that is taken is in the store byte for byte, one that is not leaves nothing.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>
#include <vector>

#include "cluster/http/upload.h"
#include "tests/fuzz/fuzz.h"

using namespace pleat;

namespace {

struct Taken : Multipart::Parts {
  void begin(const std::string& name, const std::string& filename) override {
    names.emplace_back(name, filename);
    contents.emplace_back();
  }
  void data(std::string_view bytes) override { contents.back() += bytes; }

  std::vector<std::pair<std::string, std::string>> names;
  std::vector<std::string> contents;
  bool accepted = false, ended = false;
  bool operator==(const Taken& other) const {
    return accepted == other.accepted && ended == other.ended && names == other.names &&
           (!accepted || contents == other.contents);
  }
};

template <class To>
void give(std::string_view body, size_t piece, To& to) {
  for (size_t i = 0; i < body.size(); i += piece) to.take(body.substr(i, piece));
}

Taken take(const std::string& type, std::string_view body, size_t piece) {
  Taken taken;
  taken.accepted = fuzz::accepts([&] {
    Multipart parts(type, taken);
    give(body, piece, parts);
    taken.ended = parts.ended();
  });
  return taken;
}

int64_t lines_of(const std::string& text) {
  int64_t lines = 0;
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end + 1) {
    end = std::min(text.find('\n', begin), text.size());
    lines += text.substr(begin, end - begin).find_first_not_of(" \t\r") != std::string::npos;
  }
  return lines;
}

// In memory, removed when the process ends.
class Folder {
 public:
  Folder() : path_("/dev/shm/pleat-fuzz-XXXXXX") {
    fuzz::expect(mkdtemp(path_.data()) != nullptr, "a folder can be made");
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }
  int64_t files() const { return std::distance(std::filesystem::directory_iterator(path_), {}); }

 private:
  std::string path_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Folder folder;
  static FileStore store(folder.path());
  const std::string_view text = fuzz::text_of(data, size);
  const std::string type(text.substr(0, text.find('\n')));
  const std::string_view body = text.substr(std::min(text.size(), type.size() + 1));

  const Taken whole = take(type, body, size + 1);
  fuzz::expect(whole == take(type, body, 1) && whole == take(type, body, 7), "pieces do not matter");
  StoredFile file;
  const bool kept = fuzz::accepts([&] {
    Upload upload(store, type, "");
    give(body, 5, upload);
    file = upload.finish();
  });
  fuzz::expect(!kept || (whole.accepted && whole.ended), "only whole bodies are kept");
  if (kept) {
    size_t part = 0;
    while (whole.names[part].first != "file") ++part;
    std::ifstream in(store.path(file.id), std::ios::binary);
    const std::string stored{std::istreambuf_iterator<char>(in), {}};
    fuzz::expect(stored == whole.contents[part], "the store has the file's bytes");
    fuzz::expect(file.bytes == int64_t(stored.size()) && file.lines == lines_of(stored), "it is counted right");
    store.remove(file.id);
  }
  fuzz::expect(folder.files() == 1, "only the lock is left");
  return 0;
}
