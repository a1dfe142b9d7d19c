#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "krul/backend/kv_rows.hpp"
#include "krul/compress/coding_numbers.hpp"
#include "krul/compress/entropy/byte_coder.hpp"
#include "krul/compress/layer_pair_compressor.hpp"

namespace krul {

/// Nothing is shared, and what the row codec leaves is entropy coded, without loss: each layer by itself, K, then V.
/// Bytes are taken apart by their place in a value, since the leading one (sign, exponent) says far more about itself
/// than the trailing one. For each tensor and place: length u32 of what encode_bytes made, then that.
/// @source splitting planes of bytes: ZipNN, arXiv:2411.05239 (second-hand)
class Packed {
 public:
  [[nodiscard]] constexpr std::string_view name() const noexcept { return sharings_by_number[5]; }
  [[nodiscard]] constexpr std::size_t layers() const noexcept { return 1; }
  template <RowCodec Codec>
  [[nodiscard]] std::size_t largest_bytes(const Codec& codec, const Geometry& geometry, std::size_t rows) const {
    return 2 * (codec.bytes(geometry, rows) + planes(codec, geometry) * (length_bytes + 1));
  }

  template <RowCodec Codec>
  [[nodiscard]] std::vector<std::byte> encode(const Codec& codec, const Geometry& geometry,
                                              std::span<const KvRows> group) const {
    std::vector<std::byte> chunk, coded;
    const std::size_t stride = planes(codec, geometry);
    for (const auto rows : {group[0].keys, group[0].values}) {
      coded.resize(codec.bytes(geometry, rows.size() / geometry.kv_row_bytes()));
      codec.encode(geometry, rows, coded);
      for (std::size_t plane = 0; plane < stride; ++plane) {
        std::vector<std::byte> bytes;
        for (std::size_t at = plane; at < coded.size(); at += stride) bytes.push_back(coded[at]);
        const auto packed = encode_bytes(bytes);
        for (std::size_t i = 0; i < length_bytes; ++i) chunk.push_back(static_cast<std::byte>(packed.size() >> 8 * i));
        chunk.insert(chunk.end(), packed.begin(), packed.end());
      }
    }
    return chunk;
  }

  template <RowCodec Codec>
  [[nodiscard]] Status decode(const Codec& codec, const Geometry& geometry, std::span<const std::byte> from,
                              std::span<const MutableKvRows> group) const {
    const auto damaged = [] {
      return fail(ErrorCode::corrupt, "a packed chunk has another length than its parts: recompute these tokens");
    };
    std::vector<std::byte> coded, bytes;
    const std::size_t stride = planes(codec, geometry);
    for (const auto rows : {group[0].keys, group[0].values}) {
      coded.resize(codec.bytes(geometry, rows.size() / geometry.kv_row_bytes()));
      for (std::size_t plane = 0; plane < stride; ++plane) {
        if (from.size() < length_bytes) return damaged();
        std::size_t length = 0;
        for (std::size_t i = length_bytes; i-- > 0;) length = length << 8 | std::to_integer<std::size_t>(from[i]);
        from = from.subspan(length_bytes);
        if (length > from.size()) return damaged();
        bytes.resize((coded.size() + stride - 1 - plane) / stride);
        if (auto status = decode_bytes(from.first(length), bytes); !status) return status;
        for (std::size_t i = 0; i < bytes.size(); ++i) coded[i * stride + plane] = bytes[i];
        from = from.subspan(length);
      }
      if (auto status = codec.decode(geometry, coded, rows); !status) return status;
    }
    return from.empty() ? Status{} : Status(damaged());
  }

 private:
  static constexpr std::size_t length_bytes = 4;

  /// Bytes of one value.
  template <RowCodec Codec>
  [[nodiscard]] static std::size_t planes(const Codec& codec, const Geometry& geometry) {
    return std::max<std::size_t>(codec.bytes(geometry, 1) / geometry.kv_values(), 1);
  }
};
static_assert(SharingPolicy<Packed>);

}  // namespace krul
