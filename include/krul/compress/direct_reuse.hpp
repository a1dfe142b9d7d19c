#pragma once

#include <algorithm>

#include "krul/compress/coding_numbers.hpp"
#include "krul/compress/detail/shared_chunk.hpp"
#include "krul/compress/layer_pair_compressor.hpp"

namespace krul {

/// One layer stands in for both of a pair: its rows are stored once and come back as those of either layer.
///
/// The kept layer has the row codec's error, the other one whatever the two layers differ by; nothing bounds that. A
/// tensor that is not shared is stored for both layers, as by Separate. A chunk starts with a byte of flags (bit 0: K
/// is shared, bit 1: V is), then K, then V: the kept layer's rows, or those of the shallower and those of the deeper
/// one.
///
/// @post reusing a decoded pair gives the same chunk wherever the row codec has no drift
/// @source which layer is kept, and leaving one tensor alone: ours
class DirectReuse {
 public:
  enum class Kept : std::uint8_t { shallower, deeper };
  struct Settings {
    Kept kept = Kept::shallower;
    bool share_keys = true;
    bool share_values = true;
  };

  DirectReuse() noexcept = default;
  /// @throws PreconditionError if neither tensor is shared: that is Separate
  explicit DirectReuse(Settings settings) : settings_(settings) {
    expects(settings.share_keys || settings.share_values, "DirectReuse: share K, V or both, or use Separate");
  }

  [[nodiscard]] constexpr std::string_view name() const noexcept { return sharings_by_number[2]; }
  /// The first layer of a group is the shallower one.
  [[nodiscard]] constexpr std::size_t layers() const noexcept { return 2; }
  /// Holds for all settings.
  template <RowCodec Codec>
  [[nodiscard]] std::size_t largest_bytes(const Codec& codec, const Geometry& geometry, std::size_t rows) const {
    return 1 + 3 * codec.bytes(geometry, rows);
  }

  template <RowCodec Codec>
  [[nodiscard]] std::vector<std::byte> encode(const Codec& codec, const Geometry& geometry,
                                              std::span<const KvRows> group) const {
    const unsigned flags = (settings_.share_keys ? 1U : 0U) | (settings_.share_values ? 2U : 0U);
    std::vector<std::byte> chunk{static_cast<std::byte>(flags)};
    const auto tensors = detail::tensors_of(group);
    for (std::size_t tensor = 0; tensor < 2; ++tensor)
      for (std::size_t layer = 0; layer < 2; ++layer)
        if ((flags >> tensor & 1U) == 0 || layer == static_cast<std::size_t>(settings_.kept))
          detail::append_coded(codec, geometry, tensors[tensor][layer], chunk);
    return chunk;
  }

  template <RowCodec Codec>
  [[nodiscard]] Status decode(const Codec& codec, const Geometry& geometry, std::span<const std::byte> from,
                              std::span<const MutableKvRows> group) const {
    detail::ChunkReader reader(from);
    const auto flags = detail::take_flags(reader, 3U);
    if (!flags) return propagate(flags);
    const auto tensors = detail::tensors_of(group);
    for (std::size_t tensor = 0; tensor < 2; ++tensor) {
      const auto [shallower, deeper] = tensors[tensor];
      if (auto first = reader.decode(codec, geometry, shallower); !first) return first;
      if ((*flags >> tensor & 1U) != 0)
        std::copy(shallower.begin(), shallower.end(), deeper.begin());
      else if (auto second = reader.decode(codec, geometry, deeper); !second)
        return second;
    }
    return reader.finish();
  }

 private:
  Settings settings_ = {};
};
static_assert(SharingPolicy<DirectReuse>);

}  // namespace krul
