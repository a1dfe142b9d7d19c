#pragma once

#include <algorithm>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/restore/restore_policy.hpp"
#include "krul/strategy/selection_policy.hpp"

namespace krul::test {

// Parts as a researcher writes them, of names and forms that krul does not know.

/// A row codec from outside: the cache's bytes, every bit turned over.
struct InvertedCodec {
  [[nodiscard]] std::string_view name() const { return "acme.inverted.1"; }
  [[nodiscard]] std::size_t bytes(const Geometry& geometry, std::size_t rows) const {
    return rows * geometry.kv_row_bytes();
  }
  void encode(const Geometry&, std::span<const std::byte> rows, std::span<std::byte> to) const {
    std::ranges::transform(rows, to.begin(), [](std::byte each) { return ~each; });
  }
  Status decode(const Geometry&, std::span<const std::byte> from, std::span<std::byte> rows) const {
    std::ranges::transform(from, rows.begin(), [](std::byte each) { return ~each; });
    return {};
  }
  [[nodiscard]] double relative_error(ElementType) const { return 0; }
};
static_assert(RowCodec<InvertedCodec>);

/// A sharing policy from outside: the deeper layer's rows are told by how they differ from the shallower one's.
struct DifferingBits {
  [[nodiscard]] std::string_view name() const { return "acme.differing-bits.1"; }
  [[nodiscard]] std::size_t layers() const { return 2; }
  template <RowCodec Codec>
  [[nodiscard]] std::size_t largest_bytes(const Codec& codec, const Geometry& geometry, std::size_t rows) const {
    return 4 * codec.bytes(geometry, rows);
  }
  template <RowCodec Codec>
  [[nodiscard]] std::vector<std::byte> encode(const Codec& codec, const Geometry& geometry,
                                              std::span<const KvRows> group) const {
    const std::size_t rows = group[0].keys.size() / geometry.kv_row_bytes(), length = codec.bytes(geometry, rows);
    std::vector<std::byte> chunk(4 * length), differing(group[0].keys.size());
    for (std::size_t tensor = 0; tensor < 2; ++tensor) {
      const auto first = tensor == 0 ? group[0].keys : group[0].values;
      const auto second = tensor == 0 ? group[1].keys : group[1].values;
      std::ranges::transform(first, second, differing.begin(), std::bit_xor{});
      codec.encode(geometry, first, std::span(chunk).subspan(2 * tensor * length, length));
      codec.encode(geometry, differing, std::span(chunk).subspan((2 * tensor + 1) * length, length));
    }
    return chunk;
  }
  template <RowCodec Codec>
  Status decode(const Codec& codec, const Geometry& geometry, std::span<const std::byte> from,
                std::span<const MutableKvRows> group) const {
    const std::size_t rows = group[0].keys.size() / geometry.kv_row_bytes(), length = codec.bytes(geometry, rows);
    if (from.size() != 4 * length) return fail(ErrorCode::corrupt, "another length");
    for (std::size_t tensor = 0; tensor < 2; ++tensor) {
      const auto first = tensor == 0 ? group[0].keys : group[0].values;
      const auto second = tensor == 0 ? group[1].keys : group[1].values;
      if (auto status = codec.decode(geometry, from.subspan(2 * tensor * length, length), first); !status)
        return status;
      if (auto status = codec.decode(geometry, from.subspan((2 * tensor + 1) * length, length), second); !status)
        return status;
      std::ranges::transform(first, second, second.begin(), std::bit_xor{});
    }
    return {};
  }
};
static_assert(SharingPolicy<DifferingBits>);

/// A selection policy from outside.
struct FirstAndLast {
  [[nodiscard]] std::vector<LayerPair> pairs(const SelectionQuestion& question) const {
    return {{0, question.layers - 1}};
  }
};
static_assert(SelectionPolicy<FirstAndLast>);

/// Restore policies from outside: one block of each layer, and one half of all tokens.
struct FirstBlock {
  [[nodiscard]] std::vector<std::size_t> prefix(const RestoreSizes& sizes, const Costs&) const {
    return std::vector<std::size_t>(sizes.layers.size(), sizes.block);
  }
};
static_assert(RestorePolicy<FirstBlock>);
struct SecondHalf {
  [[nodiscard]] std::vector<std::size_t> prefix(const RestoreSizes& sizes, const Costs&) const {
    return std::vector<std::size_t>(sizes.layers.size(), (sizes.history + 1) / 2 + sizes.block / 2);
  }
};
static_assert(RestorePolicy<SecondHalf>);

}  // namespace krul::test
