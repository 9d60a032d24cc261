#pragma once
// The same for the emulator as parallel/device/language/window_pointer.h says for nvcc.
#include <cstddef>

struct ncclWindow_vidmem;  // NCCL's name for what an ncclWindow_t points to

// Where the memory of a rank of the team is, `offset` bytes behind its beginning.
void* ncclGetLsaPointer(ncclWindow_vidmem* window, size_t offset, int peer);
