#include "parallel/device/two_shot.h"

namespace pleat {

int64_t two_shots_from(std::span<const ShotTimes> times) {
  int64_t bytes = kNeverTwoShot;
  for (size_t i = times.size(); i > 0 && times[i - 1].two_shot < times[i - 1].one_shot; --i) bytes = times[i - 1].bytes;
  return bytes;
}

}  // namespace pleat
