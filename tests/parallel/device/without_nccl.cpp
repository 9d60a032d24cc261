// What a build without NCCL says.
#include <gtest/gtest.h>

#include "kernels/check.h"
#include "parallel/device/nccl_sum.h"
#include "parallel/self_communicator.h"

namespace pleat {
namespace {

TEST(NoNccl, SaysWhatToInstall) {
  SelfCommunicator communicator;
  try {
    start_nccl(communicator);
    FAIL() << "there is no NCCL";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unimplemented);
    EXPECT_NE(std::string(error.what()).find("install the CUDA toolkit and libnccl-dev"), std::string::npos);
  }
}

}  // namespace
}  // namespace pleat
