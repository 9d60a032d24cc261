#pragma once
// GPTQ's loop (arXiv 2210.17323), whatever a column is rounded to: columns one by one, each one's error compensated on
// the columns still to come, weighed by the second moments of the inputs.
#include <cstdint>
#include <vector>

#include "core/fold/products.h"

namespace pleat {

// The columns in the order of their second moments, largest first; in their own where there are none.
std::vector<int32_t> order_by_activation(const std::vector<double>& second_moment, int64_t d);
std::vector<int32_t> natural_order(int64_t d);
// A square matrix with rows and columns in another order, or some of them.
std::vector<double> reordered(const std::vector<double>& square, const std::vector<int32_t>& order);

// What a column becomes when its turn comes.
class ColumnRounding {
 public:
  virtual ~ColumnRounding() = default;
  // Columns of rest [rows, d] stand in the order given to gptq_columns(), with the errors so far compensated; of
  // columns past the 64 in work, only errors of earlier 64s. stored [end - begin]: what rows [begin, end) hold in the
  // column in place `at` from now on. Called with the places ascending; each row from one thread.
  // error_weight [d], by place: what a squared error in a column costs, relative to others.
  virtual void round(int64_t begin, int64_t end, int64_t at, const Table& rest, const float* error_weight,
                     float* stored) = 0;
};

// w [rows, d]; second_moment [d, d] = sum of x x^T, or empty: no errors are compensated. rows_together: rows are handed
// to `rounding` in ranges from one multiple of it to the next (or the end).
void gptq_columns(Context& ctx, MatrixView<const float> w, const std::vector<double>& second_moment,
                  const std::vector<int32_t>& order, int64_t rows_together, ColumnRounding& rounding);

}  // namespace pleat
