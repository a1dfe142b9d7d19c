#pragma once

#include <array>
#include <string>

#include "krul/eval/bit_packing.hpp"
#include "krul/eval/history_coder.hpp"

namespace krul::eval {

/// KIVI: keys in groups of 32 tokens of one channel, values in groups of 32 channels of one token, each group with its
/// smallest value and its step in f16. The last 32 tokens, and keys that do not fill a group, stay in f16.
/// @source KIVI, arXiv:2402.02750, second-hand
class KiviCoder {
 public:
  static constexpr std::size_t group = 32, recent = 32;

  /// @param bits  of a value, 1 to 8
  /// @throws PreconditionError otherwise
  explicit KiviCoder(unsigned bits) : bits_(bits) { expects(bits >= 1 && bits <= 8, "KiviCoder: 1 to 8 bits"); }

  [[nodiscard]] std::string name() const { return "kivi-" + std::to_string(bits_); }

  /// @throws PreconditionError unless the rows are [L][N, G, D]
  [[nodiscard]] std::vector<std::byte> encode(const Geometry& geometry, const HistoryRows& rows) const {
    expects_history(geometry, rows);
    ByteWriter out;
    out.number(static_cast<std::uint32_t>(rows.tokens));
    const Split split(rows.tokens);
    for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
      const std::span<const float> keys(rows.keys[layer]), values(rows.values[layer]);
      for_groups(geometry, split, [&](const Group& each) { encode_group(each, each.of_keys ? keys : values, out); });
      write_f16(out, keys.subspan(split.keys * geometry.kv_values()));
      write_f16(out, values.subspan(split.values * geometry.kv_values()));
    }
    return std::move(out.bytes());
  }

  /// @throws PreconditionError if encode gave other bytes
  [[nodiscard]] HistoryRows decode(const Geometry& geometry, std::span<const std::byte> bytes) const {
    ByteReader in(bytes);
    HistoryRows rows(geometry, in.number<std::uint32_t>());
    const Split split(rows.tokens);
    for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
      const std::span<float> keys(rows.keys[layer]), values(rows.values[layer]);
      for_groups(geometry, split, [&](const Group& each) { decode_group(each, in, each.of_keys ? keys : values); });
      read_f16(in, keys.subspan(split.keys * geometry.kv_values()));
      read_f16(in, values.subspan(split.values * geometry.kv_values()));
    }
    expects(in.finished(), "KiviCoder: bytes of another length");
    return rows;
  }

 private:
  /// Tokens whose keys, and values, are coded.
  struct Split {
    std::size_t values, keys;
    explicit Split(std::size_t tokens) : values(tokens > recent ? tokens - recent : 0), keys(values / group * group) {}
  };
  struct Group {
    bool of_keys;
    std::size_t first, stride, count;  ///< where its values lie
  };

  template <class Use>
  static void for_groups(const Geometry& geometry, const Split& split, Use&& use) {
    const std::size_t width = geometry.kv_values();
    for (std::size_t token = 0; token < split.keys; token += group)
      for (std::size_t channel = 0; channel < width; ++channel) use(Group{true, token * width + channel, width, group});
    for (std::size_t token = 0; token < split.values; ++token)
      for (std::size_t channel = 0; channel < width; channel += group)
        use(Group{false, token * width + channel, 1, std::min(group, width - channel)});
  }

  void encode_group(const Group& each, std::span<const float> from, ByteWriter& out) const {
    std::array<float, group> values;
    std::array<std::uint8_t, group> codes;
    for (std::size_t i = 0; i < each.count; ++i) values[i] = from[each.first + i * each.stride];
    const auto used = std::span(values).first(each.count);
    const AffineScale scale = AffineScale::of(used, bits_);
    scale.quantise(used, bits_, codes);
    scale.write(out);
    out.raw(pack_bits(std::span(codes).first(each.count), bits_));
  }

  void decode_group(const Group& each, ByteReader& in, std::span<float> to) const {
    const AffineScale scale = AffineScale::read(in);
    std::array<std::uint8_t, group> codes;
    unpack_bits(in.take((each.count * bits_ + 7) / 8), bits_, std::span(codes).first(each.count));
    for (std::size_t i = 0; i < each.count; ++i) to[each.first + i * each.stride] = scale.value(codes[i]);
  }

  unsigned bits_;
};
static_assert(HistoryCoder<KiviCoder>);

}  // namespace krul::eval
