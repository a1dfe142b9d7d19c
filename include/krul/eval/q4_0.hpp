#pragma once

#include <array>
#include <cmath>
#include <string>

#include "krul/core/half.hpp"
#include "krul/eval/bit_packing.hpp"
#include "krul/eval/history_coder.hpp"

namespace krul::eval {

/// llama.cpp's cache in q4_0: 32 values of a row share a scale in f16 and take four bits each, 4.5 bits a value.
///
/// The scale is the value of the largest magnitude, with its sign, over -8, so that this one is met and the opposite
/// end is cut at 7: an error of one scale at most.
/// @source ggml's block_q4_0, second-hand
class Q40Coder {
 public:
  static constexpr std::size_t block = 32;

  [[nodiscard]] std::string name() const { return "q4_0"; }

  /// @throws PreconditionError unless the rows are [L][N, G, D]
  [[nodiscard]] std::vector<std::byte> encode(const Geometry& geometry, const HistoryRows& rows) const {
    expects_history(geometry, rows);
    ByteWriter out;
    out.number(static_cast<std::uint32_t>(rows.tokens));
    for (const auto* tensor : {&rows.keys, &rows.values})
      for (const auto& values : *tensor)
        for_blocks(geometry, values.size(), [&](std::size_t first, std::size_t count) {
          encode_block(std::span(values).subspan(first, count), out);
        });
    return std::move(out.bytes());
  }

  /// @throws PreconditionError if encode gave other bytes
  [[nodiscard]] HistoryRows decode(const Geometry& geometry, std::span<const std::byte> bytes) const {
    ByteReader in(bytes);
    HistoryRows rows(geometry, in.number<std::uint32_t>());
    for (auto* tensor : {&rows.keys, &rows.values})
      for (auto& values : *tensor)
        for_blocks(geometry, values.size(), [&](std::size_t first, std::size_t count) {
          decode_block(in, std::span(values).subspan(first, count));
        });
    expects(in.finished(), "Q40Coder: bytes of another length");
    return rows;
  }

 private:
  /// Blocks do not reach from one row into the next.
  template <class Use>
  static void for_blocks(const Geometry& geometry, std::size_t values, Use&& use) {
    const std::size_t width = geometry.kv_values();
    for (std::size_t row = 0; row < values; row += width)
      for (std::size_t first = 0; first < width; first += block) use(row + first, std::min(block, width - first));
  }

  static void encode_block(std::span<const float> values, ByteWriter& out) {
    const float extreme =
        *std::max_element(values.begin(), values.end(), [](float a, float b) { return std::abs(a) < std::abs(b); });
    const float scale = extreme / -8, inverse = scale != 0 ? 1 / scale : 0;
    std::array<std::uint8_t, block> codes{};
    for (std::size_t i = 0; i < values.size(); ++i)
      codes[i] = static_cast<std::uint8_t>(std::min(15.0F, values[i] * inverse + 8.5F));
    out.number(f16_from_float(scale));
    out.raw(pack_bits(std::span(codes).first(values.size()), 4));
  }

  static void decode_block(ByteReader& in, std::span<float> values) {
    const float scale = float_from_f16(in.number<std::uint16_t>());
    std::array<std::uint8_t, block> codes{};
    unpack_bits(in.take((values.size() + 1) / 2), 4, std::span(codes).first(values.size()));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = scale * (static_cast<float>(codes[i]) - 8);
  }
};
static_assert(HistoryCoder<Q40Coder>);

}  // namespace krul::eval
