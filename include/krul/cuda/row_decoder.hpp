#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/compress/any_codec.hpp"
#include "krul/compress/coding_numbers.hpp"
#include "krul/core/finite.hpp"
#include "krul/core/geometry.hpp"
#include "krul/cuda/decoding_rooms.hpp"
#include "krul/cuda/device_kv_cache.hpp"
#include "krul/cuda/device_room.hpp"
#include "krul/cuda/kernels/expand_rows.hpp"
#include "krul/cuda/touching.hpp"

namespace krul::cuda {

/// Brings chunks of one layer back on a device that a row codec wrote, to the bits of the codec.
template <DeviceApi Device>
class RowDecoder {
 public:
  using Cache = DeviceKvCache<Device>;

  RowDecoder(std::shared_ptr<DecodingRooms<Device>> rooms, const Geometry& geometry)
      : rooms_(std::move(rooms)), geometry_(geometry) {}

  /// Whether a device has a kernel for chunks of this coding.
  [[nodiscard]] static bool takes(std::uint8_t coding) noexcept {
    return coding >> 4 == 0 && (coding & 0xfU) >= exact && (coding & 0xfU) <= int4;
  }

  /// Asks for the rows of a chunk, as JointDecoder::decode does.
  /// @param coding  one that it takes
  /// @return corrupt if the chunk is not one of so many rows; too_large if it does not fit a room
  /// @throws PreconditionError if the cache has no such rows, or there is no kernel; ResultError if the device fails
  [[nodiscard]] Status decode(std::uint8_t coding, std::size_t layer, std::span<const std::byte> bytes, TokenRange rows,
                              Cache& cache) {
    expects(takes(coding) && rows.end <= cache.capacity() && layer < cache.layers(),
            "RowDecoder: there is no kernel, or the cache has no such rows");
    const auto codec = row_codec_from_number(coding & 0xfU);
    if (!codec) return propagate(codec);
    const std::size_t length = codec->bytes(geometry_, rows.size());
    if (bytes.size() != 2 * length)
      return fail(ErrorCode::corrupt, "a chunk of " + std::to_string(rows.size()) + " tokens has " +
                                          std::to_string(bytes.size()) + " bytes instead of " +
                                          std::to_string(2 * length) + ": recompute these tokens");
    if (coding == exact) return copy(layer, {bytes.first(length), bytes.last(length)}, rows, cache);
    DeviceRoom room(rooms_->next());
    auto* const verdict = const_cast<ChunkVerdict*>(room.add(std::vector<ChunkVerdict>(1)));
    const std::array sides{room.add(bytes.first(length)), room.add(bytes.last(length))};
    if (auto status = rooms_->fill(rooms_->next(), room.filled(), room.size()); !status) return status;
    std::vector<TouchedBytes> touched{{rooms_->next(), room.size(), true}};
    cache.touched(layer, rows, [&](const TouchedBytes& each) { touched.push_back(each); });
    cache.begin(Rows::decoded, rooms_->stream());
    for (std::size_t side = 0; side < 2; ++side) {
      std::byte* const to = (side == 0 ? cache.keys(layer) : cache.values(layer)) + rows.begin * cache.row_bytes();
      expand(coding & 0xfU,
             {.type = geometry_.cache_type,
              .from = sides[side],
              .to = to,
              .heads = static_cast<std::uint32_t>(rows.size() * geometry_.kv_heads),
              .dim = static_cast<std::uint32_t>(geometry_.head_dim),
              .unsound = &verdict->unsound},
             touched);
      launch(FindNotFinite{geometry_.cache_type, to, rows.size() * geometry_.kv_values(), &verdict->not_finite},
             touched, rows.size());
    }
    cache.end(Rows::decoded, rooms_->stream());
    rooms_->asked(verdict, [&cache, layer, rows] { cache.mark_present(layer, rows); });
    return {};
  }

 private:
  // As coding_numbers.hpp counts row codecs.
  static constexpr unsigned exact = 1, f16 = 2, bf16 = 3, int8 = 4, int4 = 5;
  static_assert(row_codecs_by_number[exact - 1] == "exact" && row_codecs_by_number[int4 - 1] == "int4");

  /// Rows that are stored as they are.
  [[nodiscard]] Status copy(std::size_t layer, const KvRows& stored, TokenRange rows, Cache& cache) const {
    if (!are_finite(geometry_.cache_type, stored.keys) || !are_finite(geometry_.cache_type, stored.values))
      return fail(ErrorCode::corrupt, "stored rows are not finite: recompute these tokens");
    cache.write_kv(layer, rows, stored);
    return {};
  }
  void expand(unsigned codec, const CodedHeads& heads, std::span<const TouchedBytes> touched) {
    if (codec == int8)
      launch(ExpandInt8{heads}, touched, heads.heads);
    else if (codec == int4)
      launch(ExpandInt4{heads}, touched, heads.heads);
    else
      launch(ExpandFloat{heads, codec == f16 ? ElementType::f16 : ElementType::bf16}, touched, heads.heads);
  }
  /// @param warps  of work that there is
  template <class Kernel>
  void launch(const Kernel& kernel, std::span<const TouchedBytes> touched, std::size_t warps) {
    constexpr unsigned warps_a_block = 4;
    const auto blocks = static_cast<unsigned>((warps + warps_a_block - 1) / warps_a_block);
    or_throw(
        rooms_->device().launch(rooms_->stream(), Touching{kernel, touched}, {blocks, warps_a_block * warp_lanes}));
  }

  std::shared_ptr<DecodingRooms<Device>> rooms_;
  Geometry geometry_;
};

}  // namespace krul::cuda
