#pragma once

#include <cstddef>
#include <functional>

#include "krul/store/ranged_reads.hpp"

namespace krul {

/// What a caller has to say about a restore that runs.
struct RestoreControl {
  std::size_t readers = 1;    ///< that read at once, > 0; one more where the store is distant
  RequestLimits limits = {};  ///< what is not read by the deadline is recomputed; once stopped, the restore is given up
  std::function<void(double)> progress = {};  ///< is told the share that is done, ascending to 1, from the same thread
};

/// The error of a restore that was stopped.
[[nodiscard]] inline tl::unexpected<Error> given_up() {
  return fail(ErrorCode::cancelled, "the restore was stopped; nothing has changed, and it can be done again");
}

}  // namespace krul
