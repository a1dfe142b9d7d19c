#pragma once

#include <cstddef>
#include <span>

#include "krul/core/tokens.hpp"

namespace krul {

/// Marks rows of a layer present, neighbours at once.
/// @param positions  ascending
/// @throws as mark_present of the cache
template <class Cache>
void mark_rows(Cache& cache, std::size_t layer, std::span<const Position> positions) {
  for (std::size_t begin = 0, end; begin < positions.size(); begin = end) {
    for (end = begin + 1; end < positions.size() && positions[end] == positions[end - 1] + 1; ++end) {
    }
    cache.mark_present(layer, {positions[begin], positions[end - 1] + std::size_t{1}});
  }
}

}  // namespace krul
