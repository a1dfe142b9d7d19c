#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace krul {

/// Seconds of one layer and the whole history in HCache's terms.
struct HiddenStateTimes {
  double read_hidden_s = 0;     ///< IO_H: its input states
  double read_kv_s = 0;         ///< IO_KV: its K and V
  double project_hidden_s = 0;  ///< C_H: K and V from its input states
  double recompute_s = 0;       ///< C_tok: the whole layer
};

/// How layers are brought back: so many from hidden states, the others all one way.
struct HiddenStateSplit {
  std::size_t hidden = 0;        ///< L_H
  bool others_recompute = true;  ///< the others (L_O) run from tokens; else their K and V are loaded
  double link_s = 0;
  double cores_s = 0;
  [[nodiscard]] double seconds() const noexcept { return std::max(link_s, cores_s); }
};

/// Both lanes' sums for `hidden` of the layers.
[[nodiscard]] inline HiddenStateSplit hidden_state_split(const HiddenStateTimes& times, std::size_t layers,
                                                         std::size_t hidden, bool others_recompute) noexcept {
  const auto states = static_cast<double>(hidden), others = static_cast<double>(layers - hidden);
  return {.hidden = hidden,
          .others_recompute = others_recompute,
          .link_s = states * times.read_hidden_s + (others_recompute ? 0 : others * times.read_kv_s),
          .cores_s = states * times.project_hidden_s + (others_recompute ? others * times.recompute_s : 0)};
}

/// The split that ends soonest, by trying them all.
/// @source HCache, arXiv:2410.05004, the scheduler's min-max form; second-hand
[[nodiscard]] inline HiddenStateSplit best_hidden_state_split(const HiddenStateTimes& times, std::size_t layers) {
  HiddenStateSplit best = hidden_state_split(times, layers, layers, true);
  for (const bool recompute : {true, false})
    for (std::size_t hidden = 0; hidden <= layers; ++hidden) {
      const HiddenStateSplit split = hidden_state_split(times, layers, hidden, recompute);
      if (split.seconds() < best.seconds()) best = split;
    }
  return best;
}

/// L_H where the two lanes of the min-max form meet, rounded up: the others recompute if the link is the slower of the
/// two, and load otherwise.
/// @source HCache, arXiv:2410.05004, second-hand; the closed form is ours, by equating the two terms
[[nodiscard]] inline std::size_t balanced_hidden_layers(const HiddenStateTimes& times, std::size_t layers) {
  const double excess = times.read_hidden_s - times.project_hidden_s;
  const double other = excess > 0 ? times.recompute_s : times.read_kv_s;
  return static_cast<std::size_t>(std::ceil(static_cast<double>(layers) * other / (other + std::abs(excess))));
}

}  // namespace krul
