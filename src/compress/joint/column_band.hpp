#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "columns.hpp"
#include "float_lanes.hpp"
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
    std::vector<std::int16_t> by_column(width * tokens), by_token(width * tokens);
    for (std::size_t at = 0; at < count_; at += width) {
      const Panel panel = panel_at(at, predicted);
      const auto read = std::span(by_column).first(panel.coded * tokens);
      if (auto status = decoder.read(read); !status) return status;
      if (panel.coded < width) std::fill(by_token.begin(), by_token.end(), std::int16_t{0});
      for (std::size_t i = 0; i < panel.coded; ++i)
        for (std::size_t token = 0; token < tokens; ++token)
          by_token[token * width + panel.lanes[i]] = by_column[i * tokens + token];
      for (std::size_t token = 0; token < tokens; ++token)
        store(panel.scale * (factor * outward(&by_token[token * width]) + panel.predicted(token)),
              &to[token * stride() + at]);
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
    const float per_step = 1 / factor;
    std::vector<std::int16_t> by_token(width * tokens);
    for (std::size_t at = 0; at < count_; at += width) {
      const Panel panel = panel_at(at, predicted);
      for (std::size_t token = 0; token < tokens; ++token) {
        const Lanes expected = panel.predicted(token);
        const Lanes steps = (panel.scale * load(&coefficients[token * stride() + at]) - expected) * per_step;
        const Lanes most = 32767 - Lanes{}, limited = steps > most ? most : (steps > -most ? steps : -most);  // or NaN
        const ShortLanes whole = __builtin_convertvector(round_to_whole(limited) & panel.is_coded, ShortLanes);
        std::int16_t* const rounded = &by_token[token * width];
        std::memcpy(rounded, &whole, sizeof whole);
        if (!as_coded.empty()) store(factor * outward(rounded) + expected, &as_coded[token * stride() + at]);
      }
      std::size_t end = symbols.size();
      symbols.resize(end + panel.coded * tokens);
      std::int16_t* const to = symbols.data();
      for (std::size_t i = 0; i < panel.coded; ++i)
        for (std::size_t token = 0; token < tokens; ++token) to[end++] = by_token[token * width + panel.lanes[i]];
    }
  }

 private:
  static constexpr std::size_t width = lane_count;
  static_assert(width == Int8Panels::width);

  struct Panel {
    std::size_t coded = 0;                   ///< how many of its columns are coded
    std::array<std::size_t, width> lanes{};  ///< which they are
    IntLanes is_coded{};                     ///< a mask of them
    Lanes scale{}, prediction_scale{};
    const float* prediction = nullptr;  ///< of the first row
    std::size_t stride = 0;
    const std::uint32_t* which = nullptr;
    [[nodiscard]] Lanes predicted(std::size_t token) const {
      return prediction ? prediction_scale * load(prediction + which[token] * stride) : Lanes{};
    }
  };

  /// What symbols stand for. Rounding to zero makes values smaller on the whole, and attention adds up what errors have
  /// in common: a little outward evens it out.
  static Lanes outward(const std::int16_t* symbols) {
    constexpr float by = 0.05F;
    ShortLanes shorts;
    std::memcpy(&shorts, symbols, sizeof shorts);
    const Lanes values = __builtin_convertvector(shorts, Lanes);
    return values > 0 ? values + by : (values < 0 ? values - by : values);
  }

  [[nodiscard]] Panel panel_at(std::size_t at, const Prediction& predicted) const {
    Panel panel;
    for (std::size_t lane = 0; lane < std::min(width, count_ - at); ++lane) {
      const std::size_t column = first_ + at + lane;
      if (columns_.coded[column] != 0) {
        panel.is_coded[lane] = -1;
        panel.lanes[panel.coded++] = lane;
      }
      panel.scale[lane] = scales_.empty() ? 1 : scales_[at + lane];
      if (!predicted.values.empty()) panel.prediction_scale[lane] = predicted.scales[column];
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
