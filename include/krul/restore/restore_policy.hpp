#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <utility>
#include <vector>

#include "krul/restore/predict.hpp"
#include "krul/restore/restore_plan.hpp"

namespace krul {

/// Decides how many leading tokens of each layer are recomputed; the rest is loaded.
///
/// prefix(sizes, costs) -> [L] tokens. Pure: the same input gives the same answer. It may propose anything; the
/// scheduler cuts the proposal down to the invariant of RestorePlan.
template <class P>
concept RestorePolicy = requires(const P& policy, const RestoreSizes& sizes, const Costs& costs) {
  { policy.prefix(sizes, costs) } -> std::same_as<std::vector<std::size_t>>;
};

/// Whether a policy decides from costs. One that does not may say so by a member
/// `static constexpr bool looks_at_costs = false`: it is asked where nobody knows the costs, too.
template <RestorePolicy P>
inline constexpr bool policy_looks_at_costs = [] {
  if constexpr (requires { P::looks_at_costs; }) {
    return static_cast<bool>(P::looks_at_costs);
  } else {
    return true;
  }
}();

/// A share of the history in tokens: to the nearest token, then down to whole blocks, or the whole history.
/// @param share  of the history, in [0, 1]
[[nodiscard]] inline std::size_t share_of_history(const RestoreSizes& sizes, double share) {
  const auto tokens = static_cast<std::size_t>(std::llround(share * static_cast<double>(sizes.history)));
  return tokens >= sizes.history ? sizes.history : tokens / sizes.block * sizes.block;
}

/// The prefix closest to what is proposed that obeys the invariant of RestorePlan: first cut down to whole blocks
/// that do not grow with depth, then raised to what is not stored.
/// @param proposed  [L] tokens
/// @post  history >= prefix[0] >= prefix[1] >= ... and prefix[l] >= layers[l].unstored; each is a multiple of the block
///        or the whole history
/// @throws PreconditionError if the proposal has another number of layers
[[nodiscard]] inline std::vector<std::size_t> admissible(const RestoreSizes& sizes, std::vector<std::size_t> proposed) {
  expects(proposed.size() == sizes.layers.size(), "RestorePolicy: prefix() must give one number for each layer");
  std::size_t above = sizes.history;
  for (std::size_t& tokens : proposed) {
    tokens = std::min(tokens, above);
    if (tokens < sizes.history) tokens = tokens / sizes.block * sizes.block;
    above = tokens;
  }
  std::size_t below = 0;  // what a deeper layer needs, all shallower ones compute too
  for (std::size_t layer = proposed.size(); layer-- > 0;) {
    below = std::max(below, sizes.layers[layer].unstored);
    proposed[layer] = std::max(proposed[layer], below);
  }
  return proposed;
}

/// The member of a family that is predicted to bring the first token soonest, made admissible; the first of equals.
/// @param family  family(i) -> [L] tokens, for i in [0, members)
/// @throws PreconditionError if a cost or a size is not valid
/// @complexity    O(L * (blocks + members)); where layers share chunks O(L * blocks * members)
template <class Family>
[[nodiscard]] std::vector<std::size_t> soonest(const RestoreSizes& sizes, const Costs& costs, std::size_t members,
                                               Family&& family) {
  const Predictor predictor(sizes, costs);
  std::vector<std::size_t> best;
  double best_s = 0;
  for (std::size_t i = 0; i < members; ++i) {
    std::vector<std::size_t> prefix = admissible(sizes, family(i));
    const double first_token_s = predictor(prefix).first_token_s;
    if (!best.empty() && first_token_s >= best_s) continue;
    best = std::move(prefix);
    best_s = first_token_s;
  }
  return best;
}

}  // namespace krul
