#pragma once

#include <cstdint>

#include "krul/compress/entropy/detail/decode_state.hpp"

namespace krul::cuda {

/// What a device found while it decoded a chunk.
struct ChunkVerdict {
  krul::detail::DecodeOutcome symbols = krul::detail::DecodeOutcome::sound;
  std::uint32_t unsound = 0;     ///< 1: no row codec can have written this
  std::uint32_t not_finite = 0;  ///< 1: a value is not finite
};

}  // namespace krul::cuda
