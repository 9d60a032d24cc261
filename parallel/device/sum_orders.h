#pragma once
// How kernels add what an exchange's ranks give, worked out once.
#include <deque>

#include "kernels/cuda/sum_order.h"
#include "parallel/communicator.h"

namespace pleat {

class SumOrders {
 public:
  // Remembers the exchange: allocates for the first call with each one. Error(invalid) as SumOrder::by_trees().
  const cuda::SumOrder& of(const TreeExchange& exchange);

 private:
  struct Known {
    TreeExchange exchange;
    cuda::SumOrder order;
  };
  std::deque<Known> known_;  // a few: attention's, the FFN's, both together
};

}  // namespace pleat
