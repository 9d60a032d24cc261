#include "core/engine/device/phase_marks.h"

namespace pleat {

void PhaseMarks::begin(const cuda::Stream& stream) {
  count_ = 0;
  mark(EngineStatistics::other, stream);
}

void PhaseMarks::mark(EngineStatistics::Phase phase, const cuda::Stream& stream) {
  if (count_ == marks_.size()) marks_.push_back({phase, std::make_unique<cuda::Event>(cuda::Event::timed)});
  Mark& mark = marks_[count_++];
  mark.ends = phase;
  mark.event->record(stream);
}

void PhaseMarks::add_to(PhaseSeconds& seconds) const {
  for (size_t i = 1; i < count_; ++i)
    seconds[marks_[i].ends] += 1e-3 * double(marks_[i].event->milliseconds_since(*marks_[i - 1].event));
}

}  // namespace pleat
