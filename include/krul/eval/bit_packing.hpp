#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "krul/core/byte_io.hpp"
#include "krul/core/error.hpp"
#include "krul/core/half.hpp"

namespace krul::eval {

/// Whole numbers of a few bits each, one after the other, the lowest bit first; the last byte is filled up with zeros.
/// @param codes  [n] below 2^bits
/// @param bits   1 to 8
/// @return       [ceil(n * bits / 8)]
[[nodiscard]] inline std::vector<std::byte> pack_bits(std::span<const std::uint8_t> codes, unsigned bits) {
  expects(bits >= 1 && bits <= 8, "pack_bits: 1 to 8 bits");
  std::vector<std::byte> packed;
  packed.reserve((codes.size() * bits + 7) / 8);
  unsigned waiting = 0, held = 0;
  for (const std::uint8_t code : codes) {
    waiting |= static_cast<unsigned>(code) << held;
    for (held += bits; held >= 8; held -= 8, waiting >>= 8) packed.push_back(static_cast<std::byte>(waiting & 0xffU));
  }
  if (held > 0) packed.push_back(static_cast<std::byte>(waiting));
  return packed;
}

/// @param packed  what pack_bits gave for as many codes
/// @throws PreconditionError if it is of another length
inline void unpack_bits(std::span<const std::byte> packed, unsigned bits, std::span<std::uint8_t> codes) {
  expects(bits >= 1 && bits <= 8 && packed.size() == (codes.size() * bits + 7) / 8, "unpack_bits: another length");
  unsigned waiting = 0, held = 0;
  std::size_t next = 0;
  for (std::uint8_t& code : codes) {
    for (; held < bits; held += 8) waiting |= std::to_integer<unsigned>(packed[next++]) << held;
    code = static_cast<std::uint8_t>(waiting & ((1U << bits) - 1));
    waiting >>= bits;
    held -= bits;
  }
}

/// Values between their smallest and their largest in equal steps: value = zero + code * scale, both in f16.
struct AffineScale {
  std::uint16_t scale = 0, zero = 0;

  /// @param values  [n], n > 0
  [[nodiscard]] static AffineScale of(std::span<const float> values, unsigned bits) {
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    return {f16_from_float((*high - *low) / static_cast<float>((1U << bits) - 1)), f16_from_float(*low)};
  }
  /// @param codes  [n] of the values; an error of half a step, and of what f16 rounds of the ends
  void quantise(std::span<const float> values, unsigned bits, std::span<std::uint8_t> codes) const {
    const float step = float_from_f16(scale), offset = float_from_f16(zero);
    const float inverse = step > 0 ? 1 / step : 0, largest = static_cast<float>((1U << bits) - 1);
    for (std::size_t i = 0; i < values.size(); ++i)
      codes[i] = static_cast<std::uint8_t>(std::clamp((values[i] - offset) * inverse + 0.5F, 0.0F, largest));
  }
  [[nodiscard]] float value(std::uint8_t code) const {
    return float_from_f16(zero) + float_from_f16(scale) * static_cast<float>(code);
  }
  void write(ByteWriter& to) const {
    to.number(scale);
    to.number(zero);
  }
  [[nodiscard]] static AffineScale read(ByteReader& from) {
    const auto scale = from.number<std::uint16_t>();
    return {scale, from.number<std::uint16_t>()};
  }
};

/// Values in f16.
inline void write_f16(ByteWriter& to, std::span<const float> values) {
  std::vector<std::byte> bytes(2 * values.size());
  from_float(ElementType::f16, values, bytes);
  to.raw(bytes);
}
inline void read_f16(ByteReader& from, std::span<float> values) {
  const auto bytes = from.take(values.size(), 2);
  expects(bytes.size() == 2 * values.size(), "read_f16: too few bytes");
  to_float(ElementType::f16, bytes, values);
}

}  // namespace krul::eval
