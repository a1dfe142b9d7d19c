#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "krul/core/error.hpp"

namespace krul {

/// Two layers that are coded together, not bound to be neighbours.
struct LayerPair {
  std::size_t shallow = 0;
  std::size_t deep = 0;  ///< > shallow
  friend bool operator==(const LayerPair&, const LayerPair&) = default;
};

/// @throws PreconditionError unless every layer is below `layers` and in at most one pair, the shallower one first
inline void expects_disjoint(std::span<const LayerPair> pairs, std::size_t layers) {
  std::vector<bool> used(layers, false);
  for (const LayerPair& pair : pairs) {
    expects(pair.shallow < pair.deep && pair.deep < layers,
            "LayerPair: the shallower of two layers of the model first");
    expects(!used[pair.shallow] && !used[pair.deep], "LayerPair: a layer may be in one pair only");
    used[pair.shallow] = used[pair.deep] = true;
  }
}

}  // namespace krul
