// The memory that a job may use, read of made-up /proc and /sys.
#include "parallel/host_memory.h"

#include <gtest/gtest.h>

#include "tests/temporary_folder.h"

namespace pleat::test {
namespace {

namespace fs = std::filesystem;
constexpr int64_t kMiB = 1 << 20;

class HostMemoryTest : public testing::Test {
 protected:
  HostMemoryTest() {
    write("proc/meminfo", "MemTotal:       1048576 kB\nMemFree:         102400 kB\nMemAvailable:    819200 kB\n");
  }
  void write(const std::string& name, const std::string& text) {
    fs::create_directories((root_ / name).parent_path());
    root_.write(name, text);
  }
  void expect(int64_t total, int64_t available) const {
    const HostMemory memory = host_memory(root_.path());
    EXPECT_EQ(memory.total, total * kMiB);
    EXPECT_EQ(memory.available, available * kMiB);
  }

 private:
  const TemporaryFolder root_;
};

std::string mib(int64_t count) { return std::to_string(count * kMiB) + "\n"; }

TEST_F(HostMemoryTest, IsTheHostsWithoutALimit) {
  expect(1024, 800);
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/memory.max", "max\n");
  write("sys/fs/cgroup/memory.current", mib(700));
  expect(1024, 800);
}

TEST_F(HostMemoryTest, IsTheLeastThatTheGroupsOfVersion2Leave) {
  write("proc/self/cgroup", "0::/slurm/job_7/step_0\n");
  for (const char* group : {"slurm/job_7", "slurm/job_7/step_0"}) {
    const std::string folder = std::string("sys/fs/cgroup/") + group + "/";
    write(folder + "memory.current", mib(200));
    write(folder + "memory.max", "max\n");
  }
  write("sys/fs/cgroup/slurm/job_7/memory.max", mib(512));
  write("sys/fs/cgroup/slurm/job_7/memory.stat",
        "anon 1\nfile 999\ninactive_file " + mib(60) + "active_file " + mib(40));
  expect(512, 412);
  write("sys/fs/cgroup/slurm/job_7/step_0/memory.max", mib(256));
  expect(256, 56);
  write("sys/fs/cgroup/slurm/job_7/memory.current", mib(600));
  expect(256, 12);
  write("sys/fs/cgroup/slurm/job_7/step_0/memory.current", mib(300));
  expect(256, 0);
}

TEST_F(HostMemoryTest, IsAContainersWhoseGroupIsTheRootHere) {
  write("proc/self/cgroup", "0::/kubepods/pod1/container2\n");
  write("sys/fs/cgroup/memory.max", mib(300));
  write("sys/fs/cgroup/memory.current", mib(100));
  expect(300, 200);
}

TEST_F(HostMemoryTest, IsWhatAGroupOfVersion1Leaves) {
  write("proc/self/cgroup", "12:pids:/other\n5:cpu,memory:/job\n1:name=systemd:/job\nnonsense\n");
  write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", mib(400));
  write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", mib(150));
  write("sys/fs/cgroup/memory/job/memory.stat", "inactive_file 5\ntotal_inactive_file " + mib(30));
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  write("sys/fs/cgroup/memory/memory.usage_in_bytes", mib(900));
  expect(400, 280);
}

}  // namespace
}  // namespace pleat::test
