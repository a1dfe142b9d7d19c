#pragma once

#include <concepts>
#include <string>
#include <utility>

#include "krul/backend/kv_rows.hpp"
#include "krul/compress/exact_codec.hpp"
#include "krul/compress/row_codec.hpp"

namespace krul {

/// What neighbouring layers share when their K and V are coded: turns the same T tokens of a group of layers into one
/// chunk, through a RowCodec for what is left to code.
///
///   layers()                               layers of a group, >= 1
///   bytes(codec, geometry, rows)           length of the chunk
///   encode(codec, geometry, group, to)     group [layers()], `to` as long as bytes() says
///   decode(codec, geometry, from, group)   the inverse up to sharing's and codec's error; corrupt if it cannot be
///
/// The compressor has checked all lengths before it calls. Not checkable here: the policy works with every RowCodec,
/// and a chunk decodes by itself.
template <class S>
concept SharingPolicy = requires(const S& sharing, const ExactCodec& codec, const Geometry& geometry, std::size_t rows,
                                 std::span<const KvRows> read, std::span<const MutableKvRows> write,
                                 std::span<const std::byte> from, std::span<std::byte> to) {
  { sharing.layers() } -> std::same_as<std::size_t>;
  { sharing.bytes(codec, geometry, rows) } -> std::same_as<std::size_t>;
  { sharing.encode(codec, geometry, read, to) } -> std::same_as<void>;
  { sharing.decode(codec, geometry, from, write) } -> std::same_as<Status>;
};

/// Each layer is coded by itself: its K rows, then its V rows.
class Separate {
 public:
  [[nodiscard]] constexpr std::size_t layers() const noexcept { return 1; }
  template <RowCodec Codec>
  [[nodiscard]] std::size_t bytes(const Codec& codec, const Geometry& geometry, std::size_t rows) const {
    return 2 * codec.bytes(geometry, rows);
  }
  template <RowCodec Codec>
  void encode(const Codec& codec, const Geometry& geometry, std::span<const KvRows> group,
              std::span<std::byte> to) const {
    codec.encode(geometry, group[0].keys, to.first(to.size() / 2));
    codec.encode(geometry, group[0].values, to.last(to.size() / 2));
  }
  template <RowCodec Codec>
  Status decode(const Codec& codec, const Geometry& geometry, std::span<const std::byte> from,
                std::span<const MutableKvRows> group) const {
    if (auto keys = codec.decode(geometry, from.first(from.size() / 2), group[0].keys); !keys) return keys;
    return codec.decode(geometry, from.last(from.size() / 2), group[0].values);
  }
};
static_assert(SharingPolicy<Separate>);

/// Turns the K and V of a group of layers over a block of tokens into one chunk and back. Holds no state of a
/// conversation: const, safe from several threads.
template <SharingPolicy Sharing = Separate, RowCodec Codec = ExactCodec>
class LayerPairCompressor {
 public:
  explicit LayerPairCompressor(Sharing sharing = {}, Codec codec = {})
      : sharing_(std::move(sharing)), codec_(std::move(codec)) {}

  [[nodiscard]] std::size_t layers() const { return sharing_.layers(); }
  [[nodiscard]] const Codec& codec() const noexcept { return codec_; }
  /// Length of a chunk of `rows` tokens.
  [[nodiscard]] std::size_t bytes(const Geometry& geometry, std::size_t rows) const {
    return sharing_.bytes(codec_, geometry, rows);
  }

  /// @param group  [layers()], each [T, G, D] with the same T
  /// @param to     [bytes(T)]
  /// @throws PreconditionError if a length does not fit
  void encode(const Geometry& geometry, std::span<const KvRows> group, std::span<std::byte> to) const {
    expects(to.size() == bytes(geometry, rows_of(geometry, group)),
            "LayerPairCompressor: the chunk needs room for exactly bytes()");
    sharing_.encode(codec_, geometry, group, to);
  }
  /// The same for groups of one layer.
  void encode(const Geometry& geometry, const KvRows& rows, std::span<std::byte> to) const {
    encode(geometry, std::span(&rows, 1), to);
  }

  /// @param chunk  from a store, not yet trusted
  /// @param group  [layers()], each [T, G, D] with the same T; holds no meaning after a failure
  /// @return corrupt if the chunk is not one of T tokens
  /// @throws PreconditionError if a length of `group` does not fit
  Status decode(const Geometry& geometry, std::span<const std::byte> chunk,
                std::span<const MutableKvRows> group) const {
    const std::size_t rows = rows_of(geometry, group), length = bytes(geometry, rows);
    if (chunk.size() != length)
      return fail(ErrorCode::corrupt, "a chunk of " + std::to_string(rows) + " tokens has " +
                                          std::to_string(chunk.size()) + " bytes instead of " + std::to_string(length) +
                                          ": recompute these tokens");
    return sharing_.decode(codec_, geometry, chunk, group);
  }
  /// The same for groups of one layer.
  Status decode(const Geometry& geometry, std::span<const std::byte> chunk, const MutableKvRows& rows) const {
    return decode(geometry, chunk, std::span(&rows, 1));
  }

 private:
  template <class Rows>
  std::size_t rows_of(const Geometry& geometry, std::span<const Rows> group) const {
    const std::size_t row = geometry.kv_row_bytes();
    expects(group.size() == layers() && row > 0, "LayerPairCompressor: the group has another number of layers");
    for (const auto& layer : group)
      expects(layer.keys.size() % row == 0 && layer.keys.size() == group[0].keys.size() &&
                  layer.values.size() == layer.keys.size(),
              "LayerPairCompressor: K and V of every layer must hold the same whole number of rows");
    return group[0].keys.size() / row;
  }

  [[no_unique_address]] Sharing sharing_;
  Codec codec_;
};

}  // namespace krul
