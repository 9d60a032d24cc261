#pragma once
#include <vector>

#include "core/fold/layer_fold.h"
#include "core/fold/report.h"

namespace pleat {

struct LayerMeasurement {
  LayerReport report;             // `weight` left 0
  double output_energy = 0;       // squared dense FFN output over the rows, for means over layers
  std::vector<double> frequency;  // [h] share of rows that select the neuron
};

// Over up to 4096 of the sample's rows, spread evenly.   wanted [sample rows, d]: the dense output.
LayerMeasurement measure_layer(Context& ctx, const FoldedLayer& layer, const Table& sample, const Table& wanted,
                               const FfnBytes& bytes, int64_t dense_neurons);

// Sums and means over layers.
LayerReport total_of(const std::vector<LayerMeasurement>& layers);

}  // namespace pleat
