#pragma once

#include <string>
#include <utility>

#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/restore/full_load.hpp"
#include "krul/strategy/composed.hpp"

namespace krul::strategy {

/// Every layer by itself through a row codec, all of it stored; a restore policy of the caller's.
template <RowCodec Codec, RestorePolicy Restore = FullLoad>
[[nodiscard]] auto by_layer(std::string name, Codec codec, Restore restore = Restore(),
                            SegmentOrder order = SegmentOrder::by_layer) {
  using Rows = Composed<NoSharing, LayerPairCompressor<Separate, Codec>, FullLoad, Restore>;
  return Rows(
      std::move(name),
      {.coding = LayerPairCompressor(Separate{}, std::move(codec)), .restore = std::move(restore), .order = order});
}

/// Every row stored through a row codec, all of them read: "load-f16" and the like.
/// @source what stores without a scheduler do, such as CachedAttention, arXiv:2403.19708; second-hand
template <RowCodec Codec>
[[nodiscard]] auto load(Codec codec) {
  std::string name = "load-" + std::string(codec.name());
  return by_layer(std::move(name), std::move(codec));
}

}  // namespace krul::strategy
