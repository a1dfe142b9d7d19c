#pragma once

#include <tuple>
#include <utility>

#include "krul/restore/restore_policy.hpp"

namespace krul {

/// Asks several policies and takes the one whose answer is predicted to bring the first token soonest, the first of
/// equals.
/// @post by the same prediction never later than any of them
template <RestorePolicy... Policies>
requires(sizeof...(Policies) > 0) class BestOf {
 public:
  BestOf() requires(std::default_initializable<Policies>&&...) = default;
  explicit BestOf(Policies... policies) : policies_(std::move(policies)...) {}

  [[nodiscard]] std::vector<std::size_t> prefix(const RestoreSizes& sizes, const Costs& costs) const {
    return std::apply(
        [&](const auto&... policies) {
          std::vector<std::size_t> answers[] = {policies.prefix(sizes, costs)...};
          return soonest(sizes, costs, sizeof...(Policies), [&](std::size_t i) { return std::move(answers[i]); });
        },
        policies_);
  }

 private:
  std::tuple<Policies...> policies_;
};

}  // namespace krul
