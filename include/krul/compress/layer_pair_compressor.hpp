#pragma once

#include <concepts>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "krul/backend/kv_rows.hpp"
#include "krul/compress/chunk_coder.hpp"
#include "krul/compress/coding_numbers.hpp"
#include "krul/compress/exact_codec.hpp"
#include "krul/compress/row_codec.hpp"

namespace krul {

/// What the layers of a group share when their K and V are coded: turns the same T tokens of all of them into one
/// chunk, through a RowCodec for what is left to code.
///
///   name()                                 names the sharing where it is stored, as RowCodec's name() does
///   layers()                               layers of a group, >= 1
///   largest_bytes(codec, geometry, rows)   no chunk of so many tokens is longer
///   encode(codec, geometry, group)         group [layers()] -> the chunk
///   decode(codec, geometry, from, group)   the inverse up to sharing's and codec's error; corrupt if it cannot be
///
/// The compressor has checked the lengths of the rows before it calls. Decoding needs what the chunk holds and nothing
/// of the policy's settings. Not checkable here: the policy works with every RowCodec, and a chunk decodes by itself.
template <class S>
concept SharingPolicy = requires(const S& sharing, const ExactCodec& codec, const Geometry& geometry, std::size_t rows,
                                 std::span<const KvRows> read, std::span<const MutableKvRows> write,
                                 std::span<const std::byte> from) {
  { sharing.name() } -> std::same_as<std::string_view>;
  { sharing.layers() } -> std::same_as<std::size_t>;
  { sharing.largest_bytes(codec, geometry, rows) } -> std::same_as<std::size_t>;
  { sharing.encode(codec, geometry, read) } -> std::same_as<std::vector<std::byte>>;
  { sharing.decode(codec, geometry, from, write) } -> std::same_as<Status>;
};

/// Nothing is shared: each layer is coded by itself, its K rows, then its V rows.
class Separate {
 public:
  [[nodiscard]] constexpr std::string_view name() const noexcept { return sharings_by_number[0]; }
  [[nodiscard]] constexpr std::size_t layers() const noexcept { return 1; }
  template <RowCodec Codec>
  [[nodiscard]] std::size_t largest_bytes(const Codec& codec, const Geometry& geometry, std::size_t rows) const {
    return 2 * codec.bytes(geometry, rows);
  }
  template <RowCodec Codec>
  [[nodiscard]] std::vector<std::byte> encode(const Codec& codec, const Geometry& geometry,
                                              std::span<const KvRows> group) const {
    std::vector<std::byte> chunk(largest_bytes(codec, geometry, group[0].keys.size() / geometry.kv_row_bytes()));
    const std::span<std::byte> to = chunk;
    codec.encode(geometry, group[0].keys, to.first(to.size() / 2));
    codec.encode(geometry, group[0].values, to.last(to.size() / 2));
    return chunk;
  }
  template <RowCodec Codec>
  [[nodiscard]] Status decode(const Codec& codec, const Geometry& geometry, std::span<const std::byte> from,
                              std::span<const MutableKvRows> group) const {
    const std::size_t rows = group[0].keys.size() / geometry.kv_row_bytes(),
                      length = largest_bytes(codec, geometry, rows);
    if (from.size() != length)
      return fail(ErrorCode::corrupt, "a chunk of " + std::to_string(rows) + " tokens has " +
                                          std::to_string(from.size()) + " bytes instead of " + std::to_string(length) +
                                          ": recompute these tokens");
    if (auto keys = codec.decode(geometry, from.first(length / 2), group[0].keys); !keys) return keys;
    return codec.decode(geometry, from.last(length / 2), group[0].values);
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

  /// "int8" where nothing is shared, "slerp+f16" and the like otherwise.
  [[nodiscard]] std::string name() const {
    const std::string codec(codec_.name());
    return sharing_.name() == sharings_by_number[0] ? codec : std::string(sharing_.name()) + "+" + codec;
  }
  [[nodiscard]] std::size_t layers() const { return sharing_.layers(); }
  [[nodiscard]] const Sharing& sharing() const noexcept { return sharing_; }
  [[nodiscard]] const Codec& codec() const noexcept { return codec_; }
  /// No chunk of `rows` tokens is longer.
  [[nodiscard]] std::size_t largest_bytes(const Geometry& geometry, std::size_t rows) const {
    return sharing_.largest_bytes(codec_, geometry, rows);
  }

  /// @param group  [layers()], each [T, G, D] with the same T
  /// @post   at most largest_bytes(T) bytes
  /// @throws PreconditionError if a length does not fit
  [[nodiscard]] std::vector<std::byte> encode(const Geometry& geometry, std::span<const KvRows> group,
                                              const BlockContext& = {}) const {
    expects_rows(geometry, group);
    return sharing_.encode(codec_, geometry, group);
  }
  /// The same for groups of one layer.
  [[nodiscard]] std::vector<std::byte> encode(const Geometry& geometry, const KvRows& rows) const {
    return encode(geometry, std::span(&rows, 1));
  }

  /// @param chunk  from a store, not yet trusted
  /// @param group  [layers()], each [T, G, D] with the same T; holds no meaning after a failure
  /// @return corrupt if the chunk is not one of T tokens
  /// @throws PreconditionError if a length of `group` does not fit
  [[nodiscard]] Status decode(const Geometry& geometry, std::span<const std::byte> chunk,
                              std::span<const MutableKvRows> group, const BlockContext& = {}) const {
    expects_rows(geometry, group);
    return sharing_.decode(codec_, geometry, chunk, group);
  }
  /// The same for groups of one layer.
  [[nodiscard]] Status decode(const Geometry& geometry, std::span<const std::byte> chunk,
                              const MutableKvRows& rows) const {
    return decode(geometry, chunk, std::span(&rows, 1));
  }

 private:
  template <class Rows>
  void expects_rows(const Geometry& geometry, std::span<const Rows> group) const {
    const std::size_t row = geometry.kv_row_bytes();
    expects(group.size() == layers() && row > 0, "LayerPairCompressor: the group has another number of layers");
    for (const auto& layer : group)
      expects(layer.keys.size() % row == 0 && layer.keys.size() == group[0].keys.size() &&
                  layer.values.size() == layer.keys.size(),
              "LayerPairCompressor: K and V of every layer must hold the same whole number of rows");
  }

  [[no_unique_address]] Sharing sharing_;
  Codec codec_;
};
static_assert(ChunkCoder<LayerPairCompressor<>>);

}  // namespace krul
