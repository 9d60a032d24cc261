// A program built with CUDA starts anywhere; its tests run where there is a device.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "kernels/cuda/device.h"
#include "schedule.h"

void pleat::cuda::set_schedule(unsigned) {}  // a device's own

int main(int argc, char** argv) {
  // Ranks share the device: a kernel that waits for another's must keep neither its code from being loaded nor its
  // stream from a queue of its own.
  setenv("CUDA_MODULE_LOADING", "EAGER", 0);
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
  testing::InitGoogleTest(&argc, argv);
  if (const std::string why = pleat::cuda::why_no_device(); !why.empty()) {
    std::printf("no CUDA device: %s\n", why.c_str());
    return 0;
  }
  return RUN_ALL_TESTS();
}
