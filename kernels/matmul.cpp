#include "kernels/matmul.h"

#include "kernels/check.h"
#include "kernels/panel_product.h"

namespace pleat {

struct PackedAccess {
  static PanelProduct product(const PackedMatrix& w, int first_leaf, std::span<const TreeNode> nodes) {
    return {w.format_, w.outputs_, w.leaf_offsets_, w.padded_offsets_, first_leaf, nodes};
  }
  static int64_t panel_bytes(const PackedMatrix& w) {
    return w.padded_offsets_.back() * kColumnBlock * weight_bytes(w.format_);
  }
  static Panel panel(const PackedMatrix& w, int64_t index, int64_t bytes) {
    return {w.data_.as<std::byte>() + index * bytes};
  }
  static void multiply(Context& ctx, MatrixView<const float> x, const PackedMatrix& w, const LowBitLeaves& leaves,
                       const float* bias, float* out, int64_t row_stride, int64_t node_stride) {
    if (has_planes(w.format_)) return multiply_planes(ctx, x, w.planes_, leaves, bias, out, row_stride, node_stride);
    multiply_low_bit(ctx, x, w.low_bit_, leaves, bias, out, row_stride, node_stride);
  }
};

namespace {

class PackedPanels : public PanelSource {
 public:
  explicit PackedPanels(const PackedMatrix& w) : w_(w), bytes_(PackedAccess::panel_bytes(w)) {}
  Panel panel(int, int64_t index) const override { return PackedAccess::panel(w_, index, bytes_); }
  bool neighbours() const override { return true; }

 private:
  const PackedMatrix& w_;
  int64_t bytes_;
};

}  // namespace

void matmul(Context& ctx, MatrixView<const float> x, const PackedMatrix& w, const float* bias, MatrixView<float> y) {
  PLEAT_ASSERT(w.leaves() == 1 && x.cols == w.inputs() && y.cols == w.outputs() && x.rows == y.rows, "x [", x.rows,
               ", ", x.cols, "], w [", w.inputs(), ", ", w.outputs(), "] of ", w.leaves(), " leaves, y [", y.rows, ", ",
               y.cols, "]");
  const TreeNode whole{0, 1};
  if (is_low_bit(w.format()))
    return PackedAccess::multiply(ctx, x, w, {w.leaf_offsets(), 0, &whole, 1}, bias, y.data, y.stride, 0);
  multiply_panels(ctx, x, PackedAccess::product(w, 0, {&whole, 1}), PackedPanels(w), {y.data, y.stride, 0, bias});
}

void matmul_nodes(Context& ctx, MatrixView<const float> x, const PackedMatrix& w, int first_leaf,
                  const std::vector<TreeNode>& nodes, float* out) {
  PLEAT_ASSERT(x.cols == w.inputs(), "x [", x.rows, ", ", x.cols, "], w [", w.inputs(), ", ", w.outputs(), "]");
  if (is_low_bit(w.format()))
    return PackedAccess::multiply(ctx, x, w, {w.leaf_offsets(), first_leaf, nodes.data(), int64_t(nodes.size())},
                                  nullptr, out, w.outputs(), x.rows * w.outputs());
  multiply_panels(ctx, x, PackedAccess::product(w, first_leaf, nodes), PackedPanels(w),
                  {out, w.outputs(), x.rows * w.outputs(), nullptr});
}

}  // namespace pleat
