#pragma once
// What kernels/cuda/language/tensor_core.h says, for the emulator: the same fragments by plain loops.
#include "device_language.h"
#include "kernels/emulator/fragments.h"

namespace pleat::cuda {

inline void multiply_add(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                         emulator::Place place = emulator::Place::current()) {
  emulator::LaneOperands mine{a, b, c};
  emulator::Block::current().block->warp_together(emulator::multiply_bf16, &mine, place);
}
inline void multiply_add(int (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                         emulator::Place place = emulator::Place::current()) {
  emulator::LaneOperands mine{a, b, c};
  emulator::Block::current().block->warp_together(emulator::multiply_int8, &mine, place);
}

// The memory is read here, where the sanitizers see by whom.
inline void load_matrices(unsigned (&words)[4], const void* row, emulator::Place place = emulator::Place::current()) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) emulator::fail("a matrix's row is at no multiple of 16 bytes", place);
  emulator::LaneRows mine{row, {}};
  emulator::Block::current().block->warp_together(emulator::exchange_rows, &mine, place);
  for (int i = 0; i < 4; ++i) words[i] = mine.rows[i][emulator::Block::current().lane() % 4];
}

}  // namespace pleat::cuda
