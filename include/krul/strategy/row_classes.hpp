#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "krul/compress/joint/profile.hpp"
#include "krul/compress/joint/step_classes.hpp"
#include "krul/core/tokens.hpp"
#include "krul/similarity/row_attention.hpp"
#include "krul/strategy/save_plan.hpp"
#include "krul/strategy/token_surprise.hpp"

namespace krul {

/// How finely a row is coded by the attention that it has received.
///
/// With independent errors and a fixed number of bits, the sum of w_i s_i^2 is least where the steps s_i are as
/// w_i^(-1/2): an exponent of 1. What a row has received tells only in part what it will receive, so the exponent is
/// less, and no row is taken to receive nothing.
/// @source ours
struct ClassesByAttention {
  double exponent = 0.5;          ///< 0: all rows alike
  double floor = 0.03;            ///< of the mean of all rows, that each is taken to receive at least
  int finest = -6, coarsest = 4;  ///< classes from the usual one
  double surprising = 8;          ///< bits: from here on a token is one that may be looked up (token_surprise)
  int coarsest_surprising = 0;    ///< class of such a token's row from the usual one
  int codes = 9;                  ///< by which the usual step may be coarser than that of rows which are all alike
  bool newest_too = false;        ///< the newest rows are finer besides
};

/// The rows of a conversation that will be saved, and what is known of them.
struct AttendedRows {
  const RowAttention& attention;       ///< of as many rows, or more
  std::span<const Token> tokens = {};  ///< [N] of the rows
  std::size_t vocabulary = 0;          ///< tokens that the model knows
};

/// The coarsest usual step of rows that are coded by attention: as far above coarsest_step as their codes, and more.
inline constexpr StepScale coarsest_by_attention{28};
static_assert(StepClasses::step(coarsest_by_attention, StepClasses::count - 1).code > coarsest_by_attention.code);

/// The usual step of rows that are coded by attention, where rows that are all alike would have `step`.
[[nodiscard]] constexpr StepScale usual_step(StepScale step, const ClassesByAttention& by) noexcept {
  const int code = std::min<int>(step.code + by.codes, coarsest_by_attention.code);
  return {static_cast<std::int8_t>(std::max<int>(step.code, code))};
}

/// The layers of each group of a profile: the bands in which attention is to be gathered for it.
[[nodiscard]] inline std::vector<std::size_t> bands_of(const Profile& profile) {
  std::vector<std::size_t> bands;
  for (const GroupTransform& group : profile.data().groups) bands.push_back(group.layers);
  return bands;
}

/// The classes of a conversation's rows; the geometric mean of the steps is the usual one, but for surprising tokens.
/// @return [bands, N]; empty if nothing was counted, or of fewer rows
[[nodiscard]] inline std::vector<std::uint8_t> row_classes(const AttendedRows& seen, const ClassesByAttention& by) {
  const RowAttention& attention = seen.attention;
  const std::size_t rows = seen.tokens.size();
  if (attention.rows < rows || rows < 2 || attention.counted <= 0 || by.exponent == 0) return {};
  std::vector<std::uint8_t> classes;
  classes.reserve(attention.bands() * rows);
  const std::vector<float> surprise = token_surprise(seen.tokens, seen.vocabulary);
  std::vector<double> octaves(rows);
  for (std::size_t band = 0; band < attention.bands(); ++band) {
    // Row 0 is kept apart, and takes most of the attention.
    double mean = 0, usual = 0;
    for (std::size_t row = 0; row < rows; ++row) octaves[row] = attention.received(band, row);
    for (std::size_t row = 1; row < rows; ++row) mean += octaves[row] / static_cast<double>(rows - 1);
    if (mean <= 0) {
      classes.insert(classes.end(), rows, StepClasses::usual);
      continue;
    }
    for (double& each : octaves) each = std::log2(each + by.floor * mean);
    for (std::size_t row = 1; row < rows; ++row) usual += octaves[row] / static_cast<double>(rows - 1);
    for (std::size_t row = 0; row < rows; ++row) {
      constexpr double codes_an_octave = 16;
      const double codes = -by.exponent / 2 * codes_an_octave * (octaves[row] - usual);
      const int coarsest = surprise[row] < by.surprising ? by.coarsest : std::min(by.coarsest, by.coarsest_surprising);
      const int off = std::clamp(static_cast<int>(std::lround(codes / StepClasses::codes_apart)), by.finest,
                                 std::max(by.finest, coarsest));
      classes.push_back(
          static_cast<std::uint8_t>(std::clamp(StepClasses::usual + off, 0, int{StepClasses::count} - 1)));
    }
  }
  return classes;
}

/// Codes each row of a plan by the attention that it has received, with steps that are as much coarser on the whole as
/// leaves the same divergence. Without a profile, or where nothing was counted, the plan stays as it is.
inline void code_by_attention(SavePlan& plan, const AttendedRows& seen, const ClassesByAttention& by) {
  if (!plan.profile) return;
  plan.classes = row_classes(seen, by);
  if (plan.classes.empty()) return;
  if (!by.newest_too)
    plan.recent.finer = 0;  // the newest rows are those that attention finds; they are coded anew as it leaves them
  plan.step = usual_step(plan.step, by);
}

}  // namespace krul
