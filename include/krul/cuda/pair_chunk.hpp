#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "krul/compress/any_codec.hpp"
#include "krul/compress/coding_numbers.hpp"
#include "krul/compress/detail/merged_tokens.hpp"
#include "krul/core/geometry.hpp"

namespace krul::cuda {

/// K, or V, of T tokens of both layers of a pair, as a chunk holds it: S coded rows, and what each layer's rows are of
/// them. The coded bytes are looked at by the device alone.
struct PairTensor {
  std::span<const std::byte> coded;         ///< [S] rows of the row codec
  std::size_t stored = 0;                   ///< S
  std::vector<std::uint32_t> sources = {};  ///< [T, 2] which row is the shallower layer's, and which the deeper one's
  std::vector<std::uint16_t> scales = {};   ///< [T, parts, 2] f16 by which it is multiplied
  std::size_t parts = 1;                    ///< of a row: 1, or G
};

/// A chunk that SlerpMerge or DirectReuse wrote, read on the host as far as it says where rows are.
struct PairChunk {
  std::array<PairTensor, 2> tensors;  ///< K, V; their spans are of the chunk's bytes

  /// @param sharing  1: SlerpMerge, 2: DirectReuse
  /// @param tokens   T
  /// @return corrupt if the chunk is not one of T tokens
  /// @complexity O(T G), whatever the rows' width
  [[nodiscard]] static Result<PairChunk> read(unsigned sharing, const AnyRowCodec& codec, const Geometry& geometry,
                                              std::span<const std::byte> bytes, std::size_t tokens);
};

namespace detail {

inline constexpr std::uint16_t f16_one = 0x3c00;

/// Coded rows of one layer for both, or of each layer, one after the other.
[[nodiscard]] inline PairTensor plain_tensor(std::size_t tokens, bool shared) {
  PairTensor tensor{.coded = {}, .stored = shared ? tokens : 2 * tokens};
  for (std::size_t token = 0; token < tokens; ++token) {
    tensor.sources.push_back(static_cast<std::uint32_t>(token));
    tensor.sources.push_back(static_cast<std::uint32_t>(shared ? token : tokens + token));
  }
  tensor.scales.assign(2 * tokens, f16_one);
  return tensor;
}

/// Directions of merged tokens, and behind them both rows of those that are retained.
[[nodiscard]] inline PairTensor merged_tensor(const krul::detail::MergedTokens& head, std::size_t tokens,
                                              std::size_t parts) {
  PairTensor tensor{.coded = {}, .stored = head.merged + 2 * (tokens - head.merged), .parts = parts};
  auto direction = std::uint32_t{0}, kept = static_cast<std::uint32_t>(head.merged);
  const std::byte* scale = head.scales.data();
  for (std::size_t token = 0; token < tokens; ++token) {
    const bool retained = krul::detail::is_retained(head.bitmap, token);
    tensor.sources.push_back(retained ? kept++ : direction);
    tensor.sources.push_back(retained ? kept++ : direction++);
    for (std::size_t i = 0; i < 2 * parts; ++i) {
      std::uint16_t bits = f16_one;
      if (!retained) {
        std::memcpy(&bits, scale, sizeof bits);
        scale += sizeof bits;
      }
      tensor.scales.push_back(bits);
    }
  }
  return tensor;
}

}  // namespace detail

inline Result<PairChunk> PairChunk::read(unsigned sharing, const AnyRowCodec& codec, const Geometry& geometry,
                                         std::span<const std::byte> bytes, std::size_t tokens) {
  const bool merges = sharing == sharing_of("slerp");
  krul::detail::ChunkReader reader(bytes);
  const auto flags = krul::detail::take_flags(reader, merges ? 3U | krul::detail::lengths_per_head : 3U);
  if (!flags) return propagate(flags);
  PairChunk chunk;
  for (std::size_t i = 0; i < 2; ++i) {
    const bool shared = (*flags >> i & 1U) != 0;
    PairTensor& tensor = chunk.tensors[i];
    if (shared && merges) {
      const std::size_t parts = (*flags & krul::detail::lengths_per_head) != 0 ? geometry.kv_heads : 1;
      const auto head = krul::detail::MergedTokens::take(reader, tokens, parts);
      if (!head) return propagate(head);
      tensor = detail::merged_tensor(*head, tokens, parts);
    } else {
      tensor = detail::plain_tensor(tokens, shared);
    }
    const auto coded = reader.take(codec.bytes(geometry, tensor.stored));
    if (!coded) return propagate(coded);
    tensor.coded = *coded;
  }
  if (auto status = reader.finish(); !status) return propagate(status);
  return chunk;
}

}  // namespace krul::cuda
