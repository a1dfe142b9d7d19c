#pragma once

#include "krul/compress/exact_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/compress/packed.hpp"
#include "krul/strategy/composed.hpp"

namespace krul::strategy {

/// The cache's own bytes, entropy coded, all of them read: bit for bit what was saved.
/// @source splitting planes of bytes: ZipNN, arXiv:2411.05239 (second-hand)
[[nodiscard]] inline auto krul_lossless() {
  return Composed<NoSharing, LayerPairCompressor<Packed, ExactCodec>, FullLoad, FullLoad>("krul-lossless");
}

}  // namespace krul::strategy
