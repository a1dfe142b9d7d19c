#pragma once

// Parts as a researcher writes them.

#include <algorithm>
#include <krul/compress/row_codec.hpp>
#include <krul/core/half.hpp>
#include <krul/strategy/selection_policy.hpp>
#include <span>
#include <string_view>
#include <vector>

/// The first layer with the last one.
struct OwnPairs {
  [[nodiscard]] std::vector<krul::LayerPair> pairs(const krul::SelectionQuestion& question) const {
    return {{0, question.layers - 1}};
  }
};

/// One byte a value: the upper one of an f16.
struct Fp8Codec {
  [[nodiscard]] std::string_view name() const { return "consumer.fp8.1"; }
  [[nodiscard]] std::size_t bytes(const krul::Geometry& geometry, std::size_t rows) const {
    return rows * geometry.kv_values();
  }
  void encode(const krul::Geometry& geometry, std::span<const std::byte> rows, std::span<std::byte> to) const {
    std::vector<float> values(to.size());
    krul::to_float(geometry.cache_type, rows, values);
    std::transform(values.begin(), values.end(), to.begin(),
                   [](float value) { return static_cast<std::byte>((krul::f16_from_float(value) + 0x80U) >> 8); });
  }
  krul::Status decode(const krul::Geometry& geometry, std::span<const std::byte> from,
                      std::span<std::byte> rows) const {
    std::vector<float> values(from.size());
    std::transform(from.begin(), from.end(), values.begin(), [](std::byte byte) {
      return krul::float_from_f16(static_cast<std::uint16_t>(std::to_integer<unsigned>(byte) << 8));
    });
    krul::from_float(geometry.cache_type, values, rows);
    return {};
  }
  [[nodiscard]] double relative_error(krul::ElementType) const { return 0x1p-3; }
};
