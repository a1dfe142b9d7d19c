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
#include "krul/core/finite.hpp"
#include "krul/core/geometry.hpp"
#include "krul/cuda/device_kv_cache.hpp"
#include "krul/cuda/device_room.hpp"
#include "krul/cuda/row_expansion.hpp"

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
    return detail::sharing_number(coding) == 0 && detail::expands(coding);
  }

  /// Asks for the rows of a chunk, as JointDecoder::decode does.
  /// @param coding  one that it takes
  /// @return corrupt if the chunk is not one of so many rows; too_large if it does not fit a room
  /// @throws PreconditionError if the cache has no such rows, or there is no kernel; ResultError if the device fails
  [[nodiscard]] Status decode(std::uint8_t coding, std::size_t layer, std::span<const std::byte> bytes, TokenRange rows,
                              Cache& cache) {
    expects(takes(coding) && rows.end <= cache.capacity() && layer < cache.layers(),
            "RowDecoder: there is no kernel, or the cache has no such rows");
    const auto codec = row_codec_from_number(detail::codec_number(coding));
    if (!codec) return propagate(codec);
    const std::size_t length = codec->bytes(geometry_, rows.size());
    if (bytes.size() != 2 * length)
      return fail(ErrorCode::corrupt, "a chunk of " + std::to_string(rows.size()) + " tokens has " +
                                          std::to_string(bytes.size()) + " bytes instead of " +
                                          std::to_string(2 * length) + ": recompute these tokens");
    if (coding == detail::exact_codec) return copy(layer, {bytes.first(length), bytes.last(length)}, rows, cache);
    DeviceRoom room(rooms_->next());
    auto* const verdict = const_cast<ChunkVerdict*>(room.add(std::vector<ChunkVerdict>(1)));
    const std::array sides{room.add(bytes.first(length)), room.add(bytes.last(length))};
    if (auto status = rooms_->fill(rooms_->next(), room.filled(), room.size()); !status) return status;
    std::vector<TouchedBytes> touched{{rooms_->next(), room.size(), true}};
    cache.touched(layer, rows, [&](const TouchedBytes& each) { touched.push_back(each); });
    cache.begin(Rows::decoded, rooms_->stream());
    for (std::size_t side = 0; side < 2; ++side) {
      std::byte* const to = (side == 0 ? cache.keys(layer) : cache.values(layer)) + rows.begin * cache.row_bytes();
      detail::launch_expansion(*rooms_, detail::codec_number(coding),
                               {.type = geometry_.cache_type,
                                .from = sides[side],
                                .to = to,
                                .heads = static_cast<std::uint32_t>(rows.size() * geometry_.kv_heads),
                                .dim = static_cast<std::uint32_t>(geometry_.head_dim),
                                .unsound = &verdict->unsound},
                               touched);
      detail::launch_warps(
          *rooms_, FindNotFinite{geometry_.cache_type, to, rows.size() * geometry_.kv_values(), &verdict->not_finite},
          touched, rows.size());
    }
    cache.end(Rows::decoded, rooms_->stream());
    rooms_->asked(verdict, [&cache, layer, rows] { cache.mark_present(layer, rows); });
    return {};
  }

 private:
  /// Rows that are stored as they are.
  [[nodiscard]] Status copy(std::size_t layer, const KvRows& stored, TokenRange rows, Cache& cache) const {
    if (!are_finite(geometry_.cache_type, stored.keys) || !are_finite(geometry_.cache_type, stored.values))
      return fail(ErrorCode::corrupt, "stored rows are not finite: recompute these tokens");
    cache.write_kv(layer, rows, stored);
    return {};
  }

  std::shared_ptr<DecodingRooms<Device>> rooms_;
  Geometry geometry_;
};

}  // namespace krul::cuda
