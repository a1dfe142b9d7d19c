#pragma once

#include "krul/compress/float_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/restore/token_split.hpp"
#include "krul/restore/uniform_split.hpp"
#include "krul/strategy/catalogue/load.hpp"

namespace krul::strategy {

/// The same front left out and recomputed in every layer, the rest read layer by layer beside it.
/// @source Krul's baseline "partial KV recompute", arXiv:2507.08045, section 7; second-hand
[[nodiscard]] inline auto partial() {
  return Composed<NoSharing, LayerPairCompressor<Separate, F16Codec>, UniformSplit>("partial");
}

/// The same without pipelining by layer: front, then rest, then prompt.
/// @source the same baseline without what pipelining adds to it: ours
[[nodiscard]] inline auto partial_plain() {
  return by_layer("partial-plain", F16Codec{}, PlainSplit{}, SegmentOrder::by_block);
}

}  // namespace krul::strategy
