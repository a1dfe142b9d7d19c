#pragma once

#include <cstddef>
#include <optional>

#include "krul/restore/restore_policy.hpp"

namespace krul {

/// How a restore that takes the tokens in order, all layers of some at a time, divides the history: the front runs
/// through the model as an ordinary prefill while blocks are read from the end backwards.
struct TokenSplit {
  std::optional<std::size_t> front;  ///< tokens that are recomputed; none: until reading and computing meet
  std::size_t chunk = 512;           ///< tokens computed at a time
};

/// A policy that restores token by token instead of layer by layer.
template <class P>
concept TokenOrderPolicy = requires(const P& policy, const RestoreSizes& sizes, const Costs& costs) {
  { policy.split(sizes, costs) } -> std::same_as<std::optional<TokenSplit>>;  ///< none: layer by layer after all
};

/// Two pointers and no plan: recompute forwards and load backwards until they meet.
/// @source Cake, arXiv:2410.03065; second-hand
class TwoPointers {
 public:
  static constexpr bool looks_at_costs = false;

  /// @param chunk  tokens computed at a time
  /// @throws PreconditionError if chunk is 0
  explicit TwoPointers(std::size_t chunk = 128) : chunk_(chunk) {
    expects(chunk > 0, "TwoPointers: at least one token");
  }

  [[nodiscard]] std::vector<std::size_t> prefix(const RestoreSizes& sizes, const Costs&) const {
    return admissible(sizes, std::vector<std::size_t>(sizes.layers.size(), 0));
  }
  [[nodiscard]] std::optional<TokenSplit> split(const RestoreSizes&, const Costs&) const {
    return TokenSplit{std::nullopt, chunk_};
  }

 private:
  std::size_t chunk_;
};
static_assert(RestorePolicy<TwoPointers> && TokenOrderPolicy<TwoPointers>);

/// The same front in every layer, computed as one prefill while the rest is read, and the prompt in a pass of its own
/// once all is there: partial recompute without pipelining by layer.
/// @source Krul's baseline "partial KV recompute"; second-hand. The front with the smaller of the larger busy
///         times: ours
struct PlainSplit {
  [[nodiscard]] std::vector<std::size_t> prefix(const RestoreSizes& sizes, const Costs& costs) const {
    const Predictor predictor(sizes, costs);
    std::vector<std::size_t> best;
    double best_s = 0;
    for (std::size_t block = 0; block <= sizes.blocks(); ++block) {
      auto prefix = admissible(sizes, std::vector<std::size_t>(sizes.layers.size(), block * sizes.block));
      const double bound_s = predictor(prefix).bound_s();
      if (!best.empty() && bound_s >= best_s) continue;
      best = std::move(prefix);
      best_s = bound_s;
    }
    return best;
  }
  [[nodiscard]] std::optional<TokenSplit> split(const RestoreSizes& sizes, const Costs& costs) const {
    return TokenSplit{prefix(sizes, costs).front(), sizes.history};
  }
};
static_assert(RestorePolicy<PlainSplit> && TokenOrderPolicy<PlainSplit>);

}  // namespace krul
