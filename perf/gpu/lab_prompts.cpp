// Products of a prompt's rows.
#include "kernels/cuda/blas_lt.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/transposed_rows.h"
#include "lab_matrix.h"

namespace pleat::lab {
namespace {

constexpr int kSamples = 61;

// multiply(stream, x, product): by whom.
template <class Multiply>
void many_rows(Lab& lab, const char* kernel, const Matrix& w, WeightFormat format, int rows, Multiply multiply) {
  const std::vector<float> x = random_values(size_t(rows * w.width()), 5);
  const cuda::DeviceArray<float> device_x(x, lab.stream()), y(size_t(rows * w.rows()));
  cuda::GemmRows room(rows, w.width());
  const cuda::GemmInput input = room.prepare(lab.stream().get(), {device_x.data(), rows, w.width()}, w.on_device(0));
  lab.measure({.kernel = kernel,
               .shape = shape_of("w", format, w, rows),
               .bytes = double(w.bytes()) + 4.0 * rows * (w.width() + w.rows()),
               .flops = 2.0 * rows * w.rows() * w.width(),
               .check =
                   // Tensor cores round towards 0.
               [&] { return compare_products(w, x, y.to_host(lab.stream()), rows, kSamples, 2.0 * w.width()); },
               .call =
                   [&](cuda::StreamHandle stream, int call) {
                     multiply(stream, input, {w.on_device(call), nullptr, std::nullopt, {y.data(), rows, w.rows()}});
                   }});
}

// The same sums by leaves of the inputs, as an engine adds them that has the same bits on any number of ranks.
void by_leaves(Lab& lab, const Matrix& w, WeightFormat format, int rows, int leaf_count) {
  std::vector<int32_t> offsets;
  for (int leaf = 0; leaf <= leaf_count; ++leaf)
    offsets.push_back(int32_t(int64_t(w.width()) * leaf / leaf_count / kGroup * kGroup));
  const cuda::DeviceLeaves leaves(offsets, std::vector<TreeNode>{{0, leaf_count}}, 0, lab.stream());
  const cuda::DeviceArray<float> work(size_t(leaves.view().pending) * size_t(rows * w.rows()));
  many_rows(lab, leaf_count == 1 ? "gemm by one leaf" : "gemm by leaves", w, format, rows,
            [&](cuda::StreamHandle stream, const cuda::GemmInput& x, cuda::GemmProduct product) {
              product.leaves = leaves.view();
              product.work = work.data();
              cuda::gemm(stream, x, product);
            });
}

// Whether some rows, by some outputs, have the bits that they have among all of `y`.
std::string compare_bits(Lab& lab, const Matrix& w, const cuda::GemmInput& all, cuda::BlasLt& blas,
                         const std::vector<float>& y) {
  const int all_rows = int(all.x.rows), all_outputs = w.rows();
  for (const int rows : {1, all_rows / 16, all_rows / 3, all_rows - 1})
    for (const int outputs : {all_outputs / 32 * 4, all_outputs / 12 * 4, all_outputs / 4 * 4}) {
      cuda::GemmInput x = all;
      x.x = {all.x.data, rows, all.x.cols, all.x.stride};
      x.operand += (all_rows - rows) * all.stride;
      cuda::Rows part = w.on_device(0);
      part.data += (all_outputs - outputs) * part.stride;
      part.rows = outputs;
      const cuda::DeviceArray<float> there(size_t(rows * outputs));
      blas.gemm_by_one_algorithm(lab.stream().get(), x, {part, nullptr, std::nullopt, {there.data(), rows, outputs}},
                                 all_outputs);
      const std::vector<float> got = there.to_host(lab.stream());
      for (int row = 0; row < rows; ++row)
        for (int output = 0; output < outputs; ++output) {
          const size_t at =
              size_t(all_rows - rows + row) * size_t(all_outputs) + size_t(all_outputs - outputs + output);
          if (got[size_t(row * outputs + output)] != y[at])
            return concat("of ", rows, " rows and ", outputs, " outputs row ", row, ", output ", output, " is ",
                          got[size_t(row * outputs + output)], ", among all ", y[at]);
        }
    }
  return "";
}

// By an algorithm that must not depend on the number of rows.
void by_one_algorithm(Lab& lab, const Matrix& w, int rows, cuda::BlasLt& blas) {
  const std::vector<float> x = random_values(size_t(rows * w.width()), 7);
  const cuda::DeviceArray<float> device_x(x, lab.stream()), y(size_t(rows * w.rows()));
  cuda::GemmRows room(rows, w.width());
  const cuda::GemmInput input = room.prepare(lab.stream().get(), {device_x.data(), rows, w.width()}, w.on_device(0));
  lab.measure({.kernel = "BlasLt::gemm_by_one_algorithm",
               .shape = shape_of("w", WeightFormat::bf16, w, rows),
               .bytes = double(w.bytes()) + 4.0 * rows * (w.width() + w.rows()),
               .flops = 2.0 * rows * w.rows() * w.width(),
               .check = [&] { return compare_bits(lab, w, input, blas, y.to_host(lab.stream())); },
               .call =
                   [&](cuda::StreamHandle stream, int call) {
                     blas.gemm_by_one_algorithm(stream, input,
                                                {w.on_device(call), nullptr, std::nullopt, {y.data(), rows, w.rows()}},
                                                w.rows());
                   }});
}

void transposition(Lab& lab, WeightFormat format, const Matrix& w) {
  const bool wide = format == WeightFormat::f32;
  const cuda::TransposedRows room(cuda::TransposedRows::bytes_of(w.on_device(0)));
  cuda::Rows out;
  lab.measure({.kernel = "TransposedRows::transpose",
               .shape = concat(name_of(format), " [", w.rows(), ", ", w.width(), "]"),
               .bytes = double(w.bytes()) + (wide ? 4.0 : 2.0) * w.rows() * w.width(),
               .check =
                   [&] {
                     const int input = w.rows() / 2;
                     const std::vector<float> expected = w.row(input);
                     for (int output = 0; output < w.width(); output += 11) {
                       const unsigned char* const row = out.data + output * out.stride;
                       Sum weight;
                       weight.add(1, expected[size_t(output)]);
                       const float value = wide ? lab.read(reinterpret_cast<const float*>(row) + input, 1)[0]
                                                : to_f32(lab.read(reinterpret_cast<const bf16*>(row) + input, 1)[0]);
                       // Rounded to bf16: 2^-8 is 2^16 roundings.
                       if (std::string wrong = weight.compare(value, wide ? 0 : 0x1p16, output); !wrong.empty())
                         return wrong;
                     }
                     return std::string();
                   },
               .call = [&](cuda::StreamHandle stream, int call) { out = room.transpose(stream, w.on_device(call)); }});
}

void preparation(Lab& lab, WeightFormat format, const Matrix& w, int rows) {
  const std::vector<float> x = random_values(size_t(rows * w.width()), 6);
  const cuda::DeviceArray<float> device_x(x, lab.stream());
  cuda::GemmRows room(rows, w.width());
  cuda::GemmInput out;
  lab.measure({.kernel = "GemmRows::prepare",
               .shape = concat(name_of(format), " [", rows, ", ", w.width(), "]"),
               .bytes = double(rows) * w.width() * (format == WeightFormat::bf16 ? 6 : 5),
               .check =
                   [&] {
                     if (format != WeightFormat::bf16) return std::string();  // the product's check is its check
                     const int last = rows - 1;
                     const std::vector<bf16> row =
                         lab.read(reinterpret_cast<const bf16*>(out.operand + last * out.stride), size_t(w.width()));
                     for (int k = 0; k < w.width(); ++k)
                       if (row[size_t(k)].bits != to_bf16(x[size_t(last * w.width() + k)]).bits)
                         return concat("input ", k, " is ", to_f32(row[size_t(k)]));
                     return std::string();
                   },
               .call =
                   [&](cuda::StreamHandle stream, int call) {
                     out = room.prepare(stream, {device_x.data(), rows, w.width()}, w.on_device(call));
                   }});
}

}  // namespace

void prompts(Lab& lab) {
  const int outputs = lab.size(8192, 70), width = lab.size(4096, 192);
  for (const WeightFormat format :
       {WeightFormat::f32, WeightFormat::bf16, WeightFormat::int8, WeightFormat::int4, WeightFormat::int3}) {
    const Matrix w(lab, format, outputs, width, 1);
    for (const int rows : {lab.size(32, 7), lab.size(512, 33)}) many_rows(lab, "gemm", w, format, rows, cuda::gemm);
    for (const int leaves : {1, lab.size(32, 3)}) by_leaves(lab, w, format, lab.size(512, 33), leaves);
    if (format == WeightFormat::bf16) {
      const Matrix narrow(lab, format, lab.size(4096, 36), lab.size(14336, 192), 2);
      many_rows(lab, "gemm", narrow, format, lab.size(512, 33), cuda::gemm);
      for (const int rows : {lab.size(32, 7), lab.size(512, 33)}) by_leaves(lab, narrow, format, rows, lab.size(32, 3));
    }
    transposition(lab, format, w);
    if (format == WeightFormat::bf16 && cuda::has_blas_lt()) {
      cuda::BlasLt blas;
      for (const int rows : {lab.size(32, 7), lab.size(512, 33)})
        many_rows(lab, "BlasLt::gemm", w, format, rows,
                  [&](cuda::StreamHandle stream, const cuda::GemmInput& x, const cuda::GemmProduct& product) {
                    blas.gemm(stream, x, product);
                  });
      for (const auto& [of_outputs, of_width] : {std::pair{lab.size(8192, 72), width},
                                                 {lab.size(6144, 40), width},
                                                 {lab.size(28672, 64), width},
                                                 {lab.size(4096, 36), lab.size(14336, 96)}})
        by_one_algorithm(lab, Matrix(lab, format, of_outputs, of_width, 1), lab.size(512, 33), blas);
    }
    if (format == WeightFormat::bf16 || format == WeightFormat::int8) preparation(lab, format, w, lab.size(512, 33));
  }
}

}  // namespace pleat::lab
