#include "kernels/lanes_portable.h"
#include "kernels/vector_ops_all.h"

namespace pleat {

extern const VectorOps portable_vector_ops;
constinit const VectorOps portable_vector_ops = vector_ops_of<PortableLanes>();

}  // namespace pleat
