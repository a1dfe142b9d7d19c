#pragma once

#include <variant>

#include "krul/compress/any_codec.hpp"
#include "krul/compress/block_context.hpp"
#include "krul/compress/direct_reuse.hpp"
#include "krul/compress/joint_transform.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/compress/packed.hpp"
#include "krul/compress/slerp_merge.hpp"

namespace krul {

/// How one chunk is coded, chosen while the program runs: what its layers share, and the codec of the rest.
///
/// A stored chunk names both in one byte: the sharing in the upper four bits, the row codec in the lower four. A
/// JointTransform codes everything itself; its row codec is the first one and does nothing.
class ChunkCoding {
  template <class Compressor>
  static constexpr bool is_joint = std::same_as<std::remove_cvref_t<Compressor>, JointTransform>;

  template <class Call>
  [[nodiscard]] decltype(auto) with_compressor(Call&& call) const {
    return std::visit(
        [&](const auto& sharing) {
          if constexpr (is_joint<decltype(sharing)>) {
            return call(sharing);
          } else {
            return call(LayerPairCompressor<std::remove_cvref_t<decltype(sharing)>, AnyRowCodec>(sharing, codec_));
          }
        },
        sharing_);
  }

 public:
  using Sharing = std::variant<Separate, SlerpMerge, DirectReuse, JointTransform, Packed>;

  ChunkCoding() = default;
  ChunkCoding(Sharing sharing, AnyRowCodec codec) : sharing_(std::move(sharing)), codec_(std::move(codec)) {}

  [[nodiscard]] const AnyRowCodec& codec() const noexcept { return codec_; }
  [[nodiscard]] std::size_t layers() const {
    return std::visit([](const auto& sharing) { return sharing.layers(); }, sharing_);
  }
  [[nodiscard]] std::uint8_t id() const {
    const unsigned sharing = std::visit([](const auto& each) { return each.id(); }, sharing_);
    return static_cast<std::uint8_t>(sharing << 4 | std::to_integer<unsigned>(codec_.id()));
  }
  [[nodiscard]] std::size_t largest_bytes(const Geometry& geometry, std::size_t rows) const {
    return with_compressor([&](const auto& compressor) { return compressor.largest_bytes(geometry, rows); });
  }
  /// @throws PreconditionError as LayerPairCompressor::encode or JointTransform::encode
  [[nodiscard]] std::vector<std::byte> encode(const Geometry& geometry, std::span<const KvRows> group,
                                              const BlockContext& context = {}) const {
    return with_compressor([&](const auto& compressor) {
      if constexpr (is_joint<decltype(compressor)>) {
        return compressor.encode(geometry, group, context);
      } else {
        return compressor.encode(geometry, group);
      }
    });
  }
  /// @throws PreconditionError as LayerPairCompressor::decode or JointTransform::decode
  Status decode(const Geometry& geometry, std::span<const std::byte> chunk, std::span<const MutableKvRows> group,
                const BlockContext& context = {}) const {
    return with_compressor([&](const auto& compressor) {
      if constexpr (is_joint<decltype(compressor)>) {
        return compressor.decode(geometry, chunk, group, context);
      } else {
        return compressor.decode(geometry, chunk, group);
      }
    });
  }

  /// The coding that a stored chunk names; good for decoding only, since settings of the encoder are not part of it.
  /// @param profile      what chunks of groups need; may be none
  /// @param first_layer  the shallowest layer that was coded into the chunk
  /// @return unsupported if this build does not know it; not_found if it needs a profile and there is none
  [[nodiscard]] static Result<ChunkCoding> from_id(std::uint8_t id, const std::shared_ptr<const Profile>& profile = {},
                                                   std::size_t first_layer = 0) {
    const auto codec = row_codec_from_id(std::byte{static_cast<std::uint8_t>(id & 0xfU)});
    if (!codec) return propagate(codec);
    if (id >> 4 == JointTransform::sharing_id) {
      const std::size_t group = profile ? profile->group_at(first_layer) : 0;
      if (!profile || group == profile->data().groups.size())
        return fail(ErrorCode::not_found,
                    "rows were coded with a profile that is not at hand: give krul the profile, or "
                    "they are recomputed");
      return ChunkCoding(JointTransform(profile, group), *codec);
    }
    return find_sharing<0>(id >> 4, *codec);
  }

 private:
  template <std::size_t Index>
  static Result<ChunkCoding> find_sharing(unsigned id, const AnyRowCodec& codec) {
    if constexpr (Index < std::variant_size_v<Sharing>) {
      const std::variant_alternative_t<Index, Sharing> sharing{};
      if (sharing.id() == id) return ChunkCoding(sharing, codec);
      return find_sharing<Index + 1>(id, codec);
    } else {
      return fail(ErrorCode::unsupported,
                  "sharing number " + std::to_string(id) + " is unknown: use a newer krul or save again");
    }
  }

  Sharing sharing_;
  AnyRowCodec codec_;
};

}  // namespace krul
