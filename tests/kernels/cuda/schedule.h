#pragma once

namespace pleat::cuda {

// In the emulator, threads of kernels run in the pseudo-random order of this seed from now on; 0: as they come.
void set_schedule(unsigned seed);

}  // namespace pleat::cuda
