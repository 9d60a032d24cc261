// One rank with the real NCCL. Without a driver it says so; with one it sums.
#include <gtest/gtest.h>
#include <nccl.h>

#include "kernels/cuda/device.h"
#include "parallel/device/nccl_sum.h"
#include "parallel/self_communicator.h"

namespace pleat {
namespace {

std::string how_one_rank_starts(Communicator& communicator) {
  try {
    const TreeExchange exchange(32, 1);
    const std::unique_ptr<DeviceSum> sum = nccl_sum(start_nccl(communicator), Reduction::invariant, 100);
    const cuda::Stream stream;
    const cuda::DeviceArray<float> values(std::vector<float>(100, 3.0f), stream), out(100);
    sum->all_reduce(stream.get(), "ffn", exchange, 2, 50, values.data(), out.data());
    sum->wait(stream);
    EXPECT_EQ(out.to_host(stream), std::vector<float>(100, 3.0f));
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unimplemented);
    return error.what();
  }
}

TEST(RealNccl, SumsWhereThereIsADeviceAndElseSaysInOneSentenceThatThereIsNone) {
  int version = 0;
  ASSERT_EQ(ncclGetVersion(&version), ncclSuccess);
  EXPECT_GE(version, NCCL_VERSION(2, 18, 0));
  SelfCommunicator communicator;
  const std::string why = cuda::why_no_device(), said = how_one_rank_starts(communicator);
  EXPECT_EQ(said, why.empty() ? "" : "rank 0: NCCL has no CUDA device to start on: " + why);
}

}  // namespace
}  // namespace pleat
