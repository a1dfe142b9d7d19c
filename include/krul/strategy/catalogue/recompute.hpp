#pragma once

#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/restore/full_recompute.hpp"
#include "krul/strategy/composed.hpp"

namespace krul::strategy {

/// Only the tokens are kept; the whole history runs through the model again.
[[nodiscard]] inline auto recompute() {
  return Composed<NoSharing, LayerPairCompressor<>, FullRecompute, FullRecompute>("recompute");
}

}  // namespace krul::strategy
