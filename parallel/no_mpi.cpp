// Stands in for mpi_communicator.cpp in a build without MPI.
#include "kernels/check.h"
#include "parallel/mpi_communicator.h"

namespace pleat {

MpiJob join_mpi(const MpiJoin& join, int) {
  throw Error(ErrorKind::unimplemented,
              concat("started as one of ", join.expected_ranks,
                     " ranks, but this build has no MPI: install libopenmpi-dev and configure with -DPLEAT_MPI=ON"));
}

void leave_mpi() {}

}  // namespace pleat
