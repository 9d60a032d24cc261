#pragma once
// Where a pass goes from one phase to the next, by the device's clock: events between its launches, which a captured
// graph records whenever it runs. Only passes that are asked for it have them: they keep kernels from overlapping.
#include <memory>
#include <vector>

#include "core/engine/engine.h"
#include "kernels/cuda/device.h"

namespace pleat {

class PhaseMarks {
 public:
  // Before all of a pass's launches.
  void begin(const cuda::Stream& stream);
  // What was enqueued since the last mark, or the beginning, is of this phase.
  void mark(EngineStatistics::Phase phase, const cuda::Stream& stream);
  // What the pass took; the stream has done it.
  void add_to(PhaseSeconds& seconds) const;

 private:
  struct Mark {
    EngineStatistics::Phase ends{};
    std::unique_ptr<cuda::Event> event;
  };
  std::vector<Mark> marks_;  // the first one is the beginning; as many as any pass had so far
  size_t count_ = 0;         // of this pass
};

}  // namespace pleat
