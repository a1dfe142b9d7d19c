#pragma once

#include <array>
#include <string>
#include <vector>

#include "krul/backend/kv_rows.hpp"
#include "krul/compress/row_codec.hpp"

namespace krul::detail {

/// K (or V) of both layers of a pair, the shallower first: each [T, G, D].
using RowPair = std::array<std::span<const std::byte>, 2>;
using MutableRowPair = std::array<std::span<std::byte>, 2>;

/// The pair's K, then its V.
[[nodiscard]] inline std::array<RowPair, 2> tensors_of(std::span<const KvRows> pair) {
  return {{{pair[0].keys, pair[1].keys}, {pair[0].values, pair[1].values}}};
}
[[nodiscard]] inline std::array<MutableRowPair, 2> tensors_of(std::span<const MutableKvRows> pair) {
  return {{{pair[0].keys, pair[1].keys}, {pair[0].values, pair[1].values}}};
}

/// Codes `rows` and puts them at the end of `chunk`.
template <RowCodec Codec>
void append_coded(const Codec& codec, const Geometry& geometry, std::span<const std::byte> rows,
                  std::vector<std::byte>& chunk) {
  const std::size_t at = chunk.size();
  chunk.resize(at + codec.bytes(geometry, rows.size() / geometry.kv_row_bytes()));
  codec.encode(geometry, rows, std::span(chunk).subspan(at));
}

/// A chunk that is not yet trusted, read from front to back.
class ChunkReader {
 public:
  explicit ChunkReader(std::span<const std::byte> chunk) noexcept : rest_(chunk) {}

  /// @return corrupt if fewer bytes are left
  [[nodiscard]] Result<std::span<const std::byte>> take(std::size_t count) {
    if (count > rest_.size())
      return fail(ErrorCode::corrupt, "a chunk of two layers ends " + std::to_string(count - rest_.size()) +
                                          " bytes too early: recompute these tokens");
    const auto taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }
  /// Decodes the next rows, as many as `rows` holds.
  template <RowCodec Codec>
  [[nodiscard]] Status decode(const Codec& codec, const Geometry& geometry, std::span<std::byte> rows) {
    const auto coded = take(codec.bytes(geometry, rows.size() / geometry.kv_row_bytes()));
    if (!coded) return propagate(coded);
    return codec.decode(geometry, *coded, rows);
  }
  /// @return corrupt if bytes are left
  [[nodiscard]] Status finish() const {
    if (rest_.empty()) return {};
    return fail(ErrorCode::corrupt, "a chunk of two layers has " + std::to_string(rest_.size()) +
                                        " bytes too many: recompute these tokens");
  }

 private:
  std::span<const std::byte> rest_;
};

/// The first byte of a chunk of shared layers: bit 0 says that K is shared, bit 1 that V is, the others as `allowed`.
/// @return corrupt if a bit is set that is not allowed, or neither tensor is shared
[[nodiscard]] inline Result<unsigned> take_flags(ChunkReader& reader, unsigned allowed) {
  const auto byte = reader.take(1);
  if (!byte) return propagate(byte);
  const unsigned flags = std::to_integer<unsigned>((*byte)[0]);
  if ((flags & ~allowed) != 0 || (flags & 3U) == 0)
    return fail(ErrorCode::corrupt, "a chunk of two layers starts with a byte that no encoder writes, " +
                                        std::to_string(flags) + ": recompute these tokens");
  return flags;
}

}  // namespace krul::detail
