#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "krul/compress/any_codec.hpp"
#include "krul/compress/coding_numbers.hpp"
#include "krul/core/geometry.hpp"
#include "krul/cuda/device_cache.hpp"
#include "krul/cuda/device_room.hpp"
#include "krul/cuda/kernels/merged_rows.hpp"
#include "krul/cuda/pair_chunk.hpp"
#include "krul/cuda/row_expansion.hpp"

namespace krul::cuda {

/// Brings chunks of pairs of layers back on a device that SlerpMerge or DirectReuse wrote with one of krul's row
/// codecs, to the bits that they give. Coded bytes cross the link, rows never do.
template <DeviceApi Device>
class PairDecoder {
 public:
  using Layers = std::array<std::size_t, 2>;  ///< the shallower one, the deeper one; neighbours or not

  PairDecoder(std::shared_ptr<DecodingRooms<Device>> rooms, const Geometry& geometry)
      : rooms_(std::move(rooms)), geometry_(geometry) {}

  /// Whether a device has kernels for chunks of this coding.
  [[nodiscard]] static bool takes(std::uint8_t coding) noexcept {
    const unsigned sharing = detail::sharing_number(coding);
    return (sharing == sharing_of("slerp") || sharing == sharing_of("reuse")) && detail::expands(coding);
  }

  /// Asks for the rows of a chunk, as JointDecoder::decode does.
  /// @param coding  one that it takes
  /// @return corrupt if the chunk is not one of so many rows; too_large if it does not fit a room
  /// @throws PreconditionError if the cache has no such rows, or there is no kernel; ResultError if the device fails
  template <DeviceCache<Device> Cache>
  [[nodiscard]] Status decode(std::uint8_t coding, const Layers& layers, std::span<const std::byte> bytes,
                              TokenRange rows, Cache& cache) {
    expects(takes(coding) && rows.end <= cache.capacity() && layers[0] < layers[1] && layers[1] < cache.layers() &&
                cache.row_bytes() == geometry_.kv_row_bytes(),
            "PairDecoder: there is no kernel, or the cache has no such rows");
    const auto codec = row_codec_from_number(detail::codec_number(coding));
    if (!codec) return propagate(codec);
    const auto chunk = PairChunk::read(detail::sharing_number(coding), *codec, geometry_, bytes, rows.size());
    if (!chunk) return propagate(chunk);

    DeviceRoom room(rooms_->next());
    auto* const verdict = const_cast<ChunkVerdict*>(room.add(std::vector<ChunkVerdict>(1)));
    std::array<Side, 2> sides;
    for (std::size_t side = 0; side < 2; ++side) {
      sides[side] = lay(chunk->tensors[side], room, *verdict);
      sides[side].place.places = cache.places(rows.begin);
      for (std::size_t i = 0; i < 2; ++i)
        sides[side].place.to[i] = side == 0 ? cache.keys(layers[i]) : cache.values(layers[i]);
    }
    const bool expands = detail::codec_number(coding) != detail::exact_codec;
    for (std::size_t side = 0; expands && side < 2; ++side)
      sides[side].place.stored = sides[side].coded.to =
          room.reserve<std::byte>(chunk->tensors[side].stored * geometry_.kv_row_bytes());
    if (auto status = rooms_->fill(rooms_->next(), room.filled(), room.size()); !status) return status;

    const TouchedBytes within{rooms_->next(), room.size(), true};
    std::vector<TouchedBytes> touched{within};
    for (const std::size_t layer : layers)
      cache.touched(layer, rows, [&](const TouchedBytes& each) { touched.push_back(each); });
    cache.begin(Rows::decoded, rooms_->stream());
    for (const Side& side : sides) {
      if (expands) detail::launch_expansion(*rooms_, detail::codec_number(coding), side.coded, {&within, 1});
      detail::launch_warps(*rooms_, side.place, touched, 2 * rows.size() * geometry_.kv_heads);
    }
    cache.end(Rows::decoded, rooms_->stream());
    rooms_->asked(verdict, [&cache, layers, rows] {
      for (const std::size_t layer : layers) cache.mark_present(layer, rows);
    });
    return {};
  }

 private:
  /// K, or V: what expands its stored rows, and what brings them to the cache.
  struct Side {
    CodedHeads coded;
    PlaceMergedRows place;
  };

  /// A tensor in the room, without the cache's places. Rows that are not expanded are those that are stored.
  [[nodiscard]] Side lay(const PairTensor& tensor, DeviceRoom& room, ChunkVerdict& verdict) const {
    const auto heads = static_cast<std::uint32_t>(geometry_.kv_heads),
               dim = static_cast<std::uint32_t>(geometry_.head_dim);
    const std::byte* const coded = room.add(tensor.coded);
    return {.coded = {.type = geometry_.cache_type,
                      .from = coded,
                      .to = nullptr,
                      .heads = static_cast<std::uint32_t>(tensor.stored) * heads,
                      .dim = dim,
                      .unsound = &verdict.unsound},
            .place = {.type = geometry_.cache_type,
                      .stored = coded,
                      .sources = room.add(tensor.sources),
                      .scales = room.add(tensor.scales),
                      .parts = static_cast<std::uint32_t>(tensor.parts),
                      .rows = static_cast<std::uint32_t>(tensor.sources.size() / 2),
                      .heads = heads,
                      .dim = dim,
                      .to = {},
                      .places = {},
                      .not_finite = &verdict.not_finite}};
  }

  std::shared_ptr<DecodingRooms<Device>> rooms_;
  Geometry geometry_;
};

}  // namespace krul::cuda
