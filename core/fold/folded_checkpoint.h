#pragma once
// Writes the folded Hugging Face folder (core/model/fold_spec.h): the original tensors with the FFN's neurons in the
// fold's order, the fold's tensors beside them, and the other files as they are.
#include <filesystem>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "core/fold/layer_fold.h"
#include "core/model/blueprint.h"

namespace pleat {

struct FoldedLayerTensors {
  LayerFold fold;              // neurons already in the new order
  std::vector<int32_t> order;  // new place -> neuron of the dense checkpoint
};

// A folder that becomes `path` only by commit(); until then it stands beside it and the destructor removes it.
class FolderInTheMaking {
 public:
  explicit FolderInTheMaking(std::filesystem::path path);  // Error(invalid) if `path` is there and not an empty folder
  ~FolderInTheMaking();
  FolderInTheMaking(const FolderInTheMaking&) = delete;
  const std::filesystem::path& folder() const { return temporary_; }
  void commit();

 private:
  std::filesystem::path path_, temporary_;
};

void write_folded_checkpoint(const Checkpoint& dense, const Blueprint& blueprint, const FoldSpec& spec,
                             const std::vector<FoldedLayerTensors>& layers, const std::filesystem::path& folder);

}  // namespace pleat
