#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "coding_order.hpp"
#include "columns.hpp"
#include "joint_loops.hpp"
#include "krul/compress/entropy/symbol_decoder.hpp"

namespace krul::detail {

/// What R f adds to the coefficients of each token.
struct Prediction {
  std::span<const float> values = {};  ///< [U, stride] of the different tokens; empty: nothing is predicted
  std::size_t stride = 0;
  std::span<const float> scales = {};         ///< [C] of its columns
  std::span<const std::uint32_t> which = {};  ///< [T] row of each token, in the order in which they are coded
};

/// A run of a block's rows, and what is predicted of all of them.
struct CodedRows {
  const CodingOrder& order;
  const CodingOrder::Run& run;
  const Prediction& predicted;
};

/// Columns of a tensor whose coefficients lie together, the wide ones or the others, for one run of rows: between their
/// symbols, which lie by column, and the coefficients, which lie by token. Sixteen columns at a time, in the
/// first-level cache.
class ColumnBand {
 public:
  /// @param first   column
  /// @param scales  [count] of the coefficients; empty: all 1
  ColumnBand(const Columns& columns, std::size_t first, std::size_t count, std::span<const float> scales)
      : columns_(columns), first_(first), count_(count), scales_(scales) {}

  /// What was coded, as coefficients: scale * (step * symbol + prediction).
  /// @param to  [run.count, stride], padded(count) columns of it
  Status dequantise(SymbolDecoder& decoder, const CodedRows& rows, MutableFloats to) const {
    const auto& loops = joint_loops(instruction_level());
    std::vector<std::int16_t> symbols(panel_width * rows.run.count);
    for (std::size_t at = 0; at < count_; at += panel_width) {
      const BandPanel panel = panel_at(at, rows);
      if (auto status = decoder.read(std::span(symbols).first(panel.coded * rows.run.count)); !status) return status;
      loops.dequantise(panel, symbols.data(), rows.run.count, {to.values + at, to.stride});
    }
    return {};
  }

  /// The other way round: (scale * coefficient - prediction) / step, rounded to what is worth its bits.
  /// @param coefficients  [run.count, stride]
  /// @param symbols       what is coded is appended, by column
  /// @param as_coded      [run.count, stride] what dequantise will give, but for the scale; values may be null
  void quantise(Floats coefficients, const CodedRows& rows, std::vector<std::int16_t>& symbols,
                MutableFloats as_coded = {}) const {
    const auto& loops = joint_loops(instruction_level());
    for (std::size_t at = 0; at < count_; at += panel_width) {
      const BandPanel panel = panel_at(at, rows);
      const std::size_t end = symbols.size();
      symbols.resize(end + panel.coded * rows.run.count);
      loops.quantise(panel, {coefficients.values + at, coefficients.stride}, rows.run.count, symbols.data() + end,
                     {as_coded.values == nullptr ? nullptr : as_coded.values + at, as_coded.stride});
    }
  }

 private:
  [[nodiscard]] BandPanel panel_at(std::size_t at, const CodedRows& rows) const {
    const Prediction& predicted = rows.predicted;
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
    // Nothing is added to the null pointer of what is not there.
    const auto of_run = [&](const auto& each) { return each.empty() ? nullptr : each.data() + rows.run.first; };
    panel.which = of_run(predicted.which);
    panel.steps = of_run(rows.order.steps);
    panel.per_step = of_run(rows.order.per_step);
    panel.bit = rows.order.bit;
    return panel;
  }

  const Columns& columns_;
  std::size_t first_, count_;
  std::span<const float> scales_;
};

}  // namespace krul::detail
