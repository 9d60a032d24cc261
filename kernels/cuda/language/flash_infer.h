#pragma once
// FlashInfer's attention of prompts (https://github.com/flashinfer-ai/flashinfer 0.5.3, templates without a library).
// kernels/emulator/flash_infer.h says the same for the emulator.
#include <flashinfer/attention/default_prefill_params.cuh>
#include <flashinfer/attention/prefill.cuh>

#include "device_language.h"
