#include "kernels/lanes_avx2.h"
#include "kernels/vector_ops_all.h"

namespace pleat {

extern const VectorOps avx2_vector_ops;
constinit const VectorOps avx2_vector_ops = vector_ops_of<Avx2Lanes>();

}  // namespace pleat
