#pragma once
// What a kernel asks of NCCL: ncclGetLsaPointer(). kernels/emulator/window_pointer.h says the same for the emulator.
#include <nccl_device.h>
