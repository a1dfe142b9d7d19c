#pragma once

#include <vector>

#include "krul/core/processor.hpp"

namespace krul::testing {

/// The processor that runs this, once for each of its levels, as if it had no higher one.
inline std::vector<Processor> processors_by_level() {
  const Processor& here = Processor::detect();
  std::vector<Processor> all;
  for (std::size_t count = 1; count <= here.levels.size(); ++count) {
    all.push_back(here);
    all.back().levels.resize(count);
  }
  return all;
}

}  // namespace krul::testing
