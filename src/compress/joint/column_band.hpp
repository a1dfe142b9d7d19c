#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "columns.hpp"
#include "joint_loops.hpp"
#include "krul/compress/entropy/symbol_decoder.hpp"

namespace krul::detail {

/// What R f adds to the coefficients of each token.
struct Prediction {
  std::span<const float> values = {};  ///< [U, stride] of the different tokens; empty: nothing is predicted
  std::size_t stride = 0;
  std::span<const float> scales = {};         ///< [C] of its columns
  std::span<const std::uint32_t> which = {};  ///< [T] row of each token
};

/// Columns of a tensor whose coefficients lie together, the wide ones or the others, between their symbols, which lie
/// by column, and the coefficients, which lie by token. Sixteen columns at a time, in the first-level cache.
class ColumnBand {
 public:
  /// @param first   column
  /// @param scales  [count] of the coefficients; empty: all 1
  ColumnBand(const Columns& columns, std::size_t first, std::size_t count, std::span<const float> scales)
      : columns_(columns), first_(first), count_(count), scales_(scales) {}

  /// [T, stride()] coefficients.
  [[nodiscard]] std::size_t stride() const noexcept { return padded(count_); }

  /// What was coded, as coefficients: scale * (factor * symbol + prediction).
  /// @param to  [T, stride()]
  Status dequantise(SymbolDecoder& decoder, const Prediction& predicted, float factor, std::span<float> to) const {
    const std::size_t tokens = to.size() / std::max<std::size_t>(stride(), 1);
    const auto& loops = joint_loops(instruction_level());
    std::vector<std::int16_t> symbols(panel_width * tokens);
    for (std::size_t at = 0; at < count_; at += panel_width) {
      const BandPanel panel = panel_at(at, predicted);
      if (auto status = decoder.read(std::span(symbols).first(panel.coded * tokens)); !status) return status;
      loops.dequantise(panel, symbols.data(), tokens, factor, {to.data() + at, stride()});
    }
    return {};
  }

  /// The other way round: (scale * coefficient - prediction) / factor, rounded.
  /// @param coefficients  [T, stride()]
  /// @param symbols       what is coded is appended, by column
  /// @param as_coded      [T, stride()] what dequantise will give, but for the scale; may be empty
  void quantise(std::span<const float> coefficients, const Prediction& predicted, float factor,
                std::vector<std::int16_t>& symbols, std::span<float> as_coded = {}) const {
    const std::size_t tokens = coefficients.size() / std::max<std::size_t>(stride(), 1);
    const auto& loops = joint_loops(instruction_level());
    for (std::size_t at = 0; at < count_; at += panel_width) {
      const BandPanel panel = panel_at(at, predicted);
      const std::size_t end = symbols.size();
      symbols.resize(end + panel.coded * tokens);
      loops.quantise(panel, {coefficients.data() + at, stride()}, tokens, factor, symbols.data() + end,
                     {as_coded.empty() ? nullptr : as_coded.data() + at, stride()});
    }
  }

 private:
  [[nodiscard]] BandPanel panel_at(std::size_t at, const Prediction& predicted) const {
    BandPanel panel;
    for (std::size_t lane = 0; lane < std::min(panel_width, count_ - at); ++lane) {
      const std::size_t column = first_ + at + lane;
      if (columns_.coded[column] != 0) {
        panel.is_coded[lane] = -1;
        panel.lanes[panel.coded++] = lane;
      }
      panel.scales[lane] = scales_.empty() ? 1 : scales_[at + lane];
      if (!predicted.values.empty()) panel.prediction_scales[lane] = predicted.scales[column];
    }
    if (!predicted.values.empty()) panel.prediction = predicted.values.data() + first_ + at;
    panel.stride = predicted.stride;
    panel.which = predicted.which.data();
    return panel;
  }

  const Columns& columns_;
  std::size_t first_, count_;
  std::span<const float> scales_;
};

}  // namespace krul::detail
