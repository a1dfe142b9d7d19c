#pragma once

#include "krul/compress/float_codec.hpp"
#include "krul/restore/token_split.hpp"
#include "krul/strategy/catalogue/load.hpp"

namespace krul::strategy {

/// No plan: recompute forwards and read backwards until they meet.
/// @source Cake, arXiv:2410.03065; second-hand
[[nodiscard]] inline auto cake() {
  return by_layer("cake", F16Codec{}, TwoPointers{}, SegmentOrder::by_block);
}

}  // namespace krul::strategy
