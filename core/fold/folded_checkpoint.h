#pragma once
// Writes the folded Hugging Face folder (core/model/fold_spec.h): the original tensors with the FFN's neurons in the
// fold's order, or in low bits, the fold's tensors beside them, and the other files as they are.
#include <filesystem>
#include <functional>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "core/fold/layer_builder.h"
#include "core/model/blueprint.h"

namespace pleat {

// A folder that becomes `path` only by commit(); until then it stands beside it and the destructor removes it.
class FolderInTheMaking {
 public:
  // Error(invalid) if `path` is there and not an empty folder, or cannot be replaced by one (a link, a mount point).
  explicit FolderInTheMaking(const std::filesystem::path& path);
  ~FolderInTheMaking();
  FolderInTheMaking(const FolderInTheMaking&) = delete;
  const std::filesystem::path& folder() const { return temporary_; }
  void commit();  // Error(failed) naming the finished folder if it cannot be renamed; it stays

 private:
  std::filesystem::path path_, temporary_;
  std::vector<std::filesystem::path> made_;  // parents that were not there, the innermost first
};

// layers: with neurons already in the order in which they are written; their folds' specs make up the metadata. done:
// is called with the share of kept tensors that are copied.
void write_folded_checkpoint(const Checkpoint& dense, const Blueprint& blueprint, double reduction,
                             const std::vector<BuiltLayer>& layers, const std::filesystem::path& folder,
                             const std::function<void(double)>& done = {});

}  // namespace pleat
