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
  emulator::LaneRows mine{emulator::matrix_row(row, place), {}};
  emulator::Block::current().block->warp_together(emulator::exchange_rows, &mine, place);
  for (int i = 0; i < 4; ++i) words[i] = mine.rows[i][emulator::Block::current().lane() % 4];
}
inline void load_transposed(unsigned (&words)[4], const void* row, emulator::Place place = emulator::Place::current()) {
  emulator::LaneColumns mine{emulator::matrix_row(row, place), {}};
  emulator::Block::current().block->warp_together(emulator::exchange_columns, &mine, place);
  const unsigned column = emulator::Block::current().lane() / 4;
  for (int i = 0; i < 4; ++i) words[i] = mine.rows[i][0][column] | unsigned(mine.rows[i][1][column]) << 16;
}

}  // namespace pleat::cuda
