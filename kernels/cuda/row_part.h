#pragma once
namespace pleat::cuda {

// Who adds up which of a row's inputs: every `step`-th piece of [begin, end), from piece `first` on. What a piece is, a
// block or group of 64 or a few inputs, the format says.
struct Part {
  int begin, end, first, step;
};

}  // namespace pleat::cuda
