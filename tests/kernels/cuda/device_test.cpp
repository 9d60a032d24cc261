#include "kernels/cuda/device.h"

#include <gtest/gtest.h>

namespace pleat::cuda {
namespace {

TEST(Graph, CopiesWhatStandsInPinnedMemoryWhenItRuns) {
  const Stream stream;
  const PinnedArray<float> in(3), out(3);
  const DeviceArray<float> there(3);
  const Graph graph(stream, [&] {
    copy_to_device(there.data(), in.data(), 3 * sizeof(float), stream.get());
    copy_to_host(out.data(), there.data(), 3 * sizeof(float), stream.get());
  });
  for (int run = 0; run < 3; ++run) {
    for (size_t i = 0; i < 3; ++i) in[i] = float(10 * run) + float(i);
    graph.launch(stream);
    stream.wait();
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ(out[i], in[i]) << "run " << run;
  }
}

TEST(Graph, RecordsItsEventsWhenItRuns) {
  const Stream stream;
  const DeviceArray<int> zeros(1 << 20);
  Event begin(Event::timed), end(Event::timed), behind(Event::timed);
  const Graph graph(stream, [&] {
    begin.record(stream);
    zero(zeros.data(), zeros.size() * sizeof(int), stream.get());
    end.record(stream);
  });
  for (int run = 0; run < 2; ++run) {
    graph.launch(stream);
    behind.record(stream);
    stream.wait();
    EXPECT_TRUE(begin.passed() && end.passed());
    EXPECT_GT(end.milliseconds_since(begin), 0);
    EXPECT_GE(behind.milliseconds_since(end), 0);
    EXPECT_LT(end.milliseconds_since(begin), 1000);
  }
}

TEST(Graph, MayBeMadeWhereEmptyArraysEnd) {
  const Stream stream;
  const DeviceArray<int> zeros(1);
  const Graph graph(stream, [&] {
    { const DeviceArray<float> none; }
    zero(zeros.data(), sizeof(int), stream.get());
  });
  graph.launch(stream);
  EXPECT_EQ(zeros.to_host(stream)[0], 0);
}

TEST(Graph, SaysWhatSpoiltItsCapture) {
  const Stream stream;
  const DeviceArray<int> zeros(1);
  DeviceArray<float> some(1);
  try {
    const Graph graph(stream, [&] {
      { const DeviceArray<float> ends = std::move(some); }
      zero(zeros.data(), sizeof(int), stream.get());
    });
    ADD_FAILURE() << "memory was freed in a capture";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("memory of the device was not freed"), std::string::npos) << error.what();
  }
  zero(zeros.data(), sizeof(int), stream.get());  // the stream is as good as before
  EXPECT_EQ(zeros.to_host(stream)[0], 0);
}

}  // namespace
}  // namespace pleat::cuda
