#include "kernels/lanes_avx512.h"
#include "kernels/vector_ops_all.h"

namespace pleat {

extern const VectorOps avx512_vector_ops;
constinit const VectorOps avx512_vector_ops = vector_ops_of<Avx512Lanes>();

}  // namespace pleat
