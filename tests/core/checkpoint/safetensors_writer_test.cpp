#include "core/checkpoint/safetensors_writer.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <iterator>

#include "core/checkpoint/checkpoint.h"
#include "kernels/check.h"
#include "tests/core/checkpoint/model_folder.h"

namespace pleat {
namespace {

size_t files_in(const std::filesystem::path& folder) {
  return size_t(std::distance(std::filesystem::directory_iterator(folder), {}));
}

TEST(SafetensorsWriter, WritesWhatACheckpointReads) {
  ModelFolder folder;
  const std::vector<float> a = {1, 2, 3, 4, 5, 6};
  const std::string b(3'000'001, 'b');
  SafetensorsWriter out(folder.path() / "model.safetensors", {{"fold", "{\"x\": 1}\n"}, {"name", "Grüße"}});
  out.add("a \"quoted\"", DType::f32, {2, 3});
  out.add("empty", DType::bf16, {0, 4});
  out.add("b", DType::i8, {int64_t(b.size())});
  out.begin();
  out.write("a \"quoted\"", a.data(), 4);
  out.write("a \"quoted\"", a.data() + 1, 20);
  out.write("empty", nullptr, 0);
  out.write("b", b.data(), 10);
  out.write("b", b.data() + 10, b.size() - 10);
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "model.safetensors"));
  out.finish();

  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  EXPECT_EQ(checkpoint.metadata()["fold"], "{\"x\": 1}\n");
  EXPECT_EQ(checkpoint.metadata()["name"], "Grüße");
  EXPECT_EQ(checkpoint.read_f32("a \"quoted\""), a);
  checkpoint.require("empty", {0, 4});
  std::string read(b.size(), '?');
  checkpoint.read("b", 0, 1, 0, int64_t(b.size()), read.data());
  EXPECT_EQ(read, b);
  EXPECT_EQ(files_in(folder.path()), 2u);
}

TEST(SafetensorsWriter, WritesAFileWithoutTensors) {
  ModelFolder folder;
  SafetensorsWriter out(folder.path() / "model.safetensors");
  out.begin();
  out.finish();
  EXPECT_TRUE(Checkpoint::open(folder.path()).names().empty());
}

TEST(SafetensorsWriter, LeavesTheOldFileWhenItIsGivenUp) {
  ModelFolder folder;
  folder.write("model.safetensors", "old");
  {
    SafetensorsWriter out(folder.path() / "model.safetensors");
    out.add("a", DType::i8, {100});
    out.begin();
    out.write("a", std::string(50, 'x').data(), 50);
  }
  EXPECT_EQ(files_in(folder.path()), 2u);
  EXPECT_EQ(std::filesystem::file_size(folder.path() / "model.safetensors"), 3u);
}

TEST(SafetensorsWriter, SaysInOneSentenceThatThereIsNoRoomAndLeavesNoHalfFile) {
  ModelFolder folder;
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small = {.rlim_cur = 1 << 16, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  std::string message;
  try {
    SafetensorsWriter out(folder.path() / "model.safetensors");
    out.add("a", DType::i8, {1 << 20});
    out.begin();
    out.write("a", std::string(1 << 20, 'x').data(), 1 << 20);
    out.finish();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::failed);
    message = error.what();
  }
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_NE(message.find("cannot write"), std::string::npos) << message;
  EXPECT_NE(message.find("model.safetensors\": File too large"), std::string::npos) << message;
  EXPECT_EQ(files_in(folder.path()), 1u);
}

TEST(SafetensorsWriter, RefusesBytesOutOfOrder) {
  ModelFolder folder;
  SafetensorsWriter out(folder.path() / "model.safetensors");
  out.add("a", DType::i8, {4});
  out.add("b", DType::i8, {4});
  EXPECT_THROW(out.add("a", DType::i8, {4}), Error);
  out.begin();
  EXPECT_THROW(out.write("b", "1234", 4), Error);
  EXPECT_THROW(out.write("a", "12345", 5), Error);
  out.write("a", "1234", 4);
  EXPECT_THROW(out.finish(), Error);
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "model.safetensors"));
}

}  // namespace
}  // namespace pleat
