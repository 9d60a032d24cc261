#include "kernels/vector_ops.h"
#include "kernels/context.h"

namespace pleat {

extern const VectorOps portable_vector_ops, avx2_vector_ops, avx512_vector_ops;

const VectorOps& vector_ops(Isa isa) {
  if (isa >= Isa::avx512) return avx512_vector_ops;
  if (isa == Isa::avx2) return avx2_vector_ops;
  return portable_vector_ops;
}

}  // namespace pleat
