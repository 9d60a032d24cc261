// A build without FlashInfer's headers.
#include "kernels/check.h"
#include "kernels/cuda/prefill_attention_kernels.h"

namespace pleat::cuda {

bool attends_by_flash_infer(const KvCache&, const AttentionScores&) { return false; }
size_t flash_infer_work(int, int, int) { return 0; }
void prefill_attention_flash_infer(cudaStream_t, const PrefillWork&, int) {
  PLEAT_ASSERT(false, "this build has no FlashInfer");
}

}  // namespace pleat::cuda
