#include "kernels/emulator/block.h"
#include "schedule.h"

void pleat::cuda::set_schedule(unsigned seed) { emulator::set_schedule(seed); }
