#pragma once

#include "krul/compress/detail/row_values.hpp"
#include "krul/compress/detail/shared_chunk.hpp"

namespace krul::detail {

/// The bit of a merged chunk's flags that says so.
inline constexpr unsigned lengths_per_head = 4;
inline constexpr std::size_t scale_bytes = 2;

[[nodiscard]] constexpr std::size_t bitmap_bytes(std::size_t tokens) noexcept {
  return (tokens + 7) / 8;
}
[[nodiscard]] inline bool is_retained(std::span<const std::byte> bitmap, std::size_t token) noexcept {
  return (std::to_integer<unsigned>(bitmap[token / 8]) >> token % 8 & 1U) != 0;
}

/// What a merged tensor of T tokens begins with: which of them are retained, and the scales of the others. Behind it
/// are, coded, a direction for each of the others, then both layers' rows of each that is retained.
struct MergedTokens {
  std::span<const std::byte> bitmap;  ///< a bit for each token: retained
  std::span<const std::byte> scales;  ///< f16 [merged, parts, 2]: of the shallower layer, of the deeper one
  std::size_t merged = 0;             ///< tokens that are not retained

  /// @param parts  of a row that have scales of their own
  /// @return corrupt if the bytes end too early, or no encoder writes them
  [[nodiscard]] static Result<MergedTokens> take(ChunkReader& reader, std::size_t tokens, std::size_t parts) {
    const auto bitmap = reader.take(bitmap_bytes(tokens));
    if (!bitmap) return propagate(bitmap);
    std::size_t merged = tokens;
    for (std::size_t bit = 0; bit < 8 * bitmap->size(); ++bit) {
      if (!is_retained(*bitmap, bit)) continue;
      if (bit >= tokens)
        return fail(ErrorCode::corrupt, "a merged chunk retains a token that it does not have: recompute these tokens");
      --merged;
    }
    const auto scales = reader.take(merged * parts * 2 * scale_bytes);
    if (!scales) return propagate(scales);
    for (std::size_t at = 0; at < scales->size(); at += scale_bytes)
      if (const float scale = load_value<ElementType::f16>(&(*scales)[at]); !(scale >= 0x1p-14F && scale < 0x1p16F))
        return fail(ErrorCode::corrupt, "a merged chunk has a length that no encoder writes: recompute these tokens");
    return MergedTokens{*bitmap, *scales, merged};
  }
};

}  // namespace krul::detail
