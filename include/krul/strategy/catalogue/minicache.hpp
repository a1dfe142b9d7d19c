#pragma once

#include "krul/compress/float_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/compress/slerp_merge.hpp"
#include "krul/strategy/composed.hpp"

namespace krul::strategy {

/// Neighbours of the deeper half merged, L/4 pairs, all of it read.
/// @source MiniCache, arXiv:2405.14366; second-hand
using Minicache = Composed<FixedDeepPairs, LayerPairCompressor<SlerpMerge, F16Codec>>;
[[nodiscard]] inline Minicache minicache() {
  return Minicache("minicache");
}

}  // namespace krul::strategy
