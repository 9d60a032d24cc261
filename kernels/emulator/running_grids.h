#pragma once
// Which grids run on which device. What CUDA may do only while a device is idle (memory comes and goes, graphs are made
// ready) waits for them here, and a grid that waits for the caller in turn is named: on a device that is a hang.
#include <chrono>

#include "kernels/emulator/block.h"

namespace pleat::emulator {

// As long as it lives, on the calling thread's device.
class RunningGrid {
 public:
  explicit RunningGrid(const Place& launched);
  ~RunningGrid();
  RunningGrid(const RunningGrid&) = delete;

 private:
  int slot_ = 0;
};

// A block of some grid has ended.
void note_progress();

// Returns when the grids that run now on the calling thread's device have ended. Ends the process where none does, and
// no block of theirs, for as long as set_patience() says (20 s).   call: its name, for the message
void wait_for_running_grids(const char* call);
void set_patience(std::chrono::milliseconds patience);

}  // namespace pleat::emulator
