#pragma once

#include <concepts>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "krul/core/detail/erased.hpp"
#include "krul/restore/cautious.hpp"
#include "krul/restore/restore_policy.hpp"
#include "krul/restore/token_split.hpp"

namespace krul {

/// A restore policy chosen while the program runs: krul's or anyone's. A value; copies share the policy, which is
/// const.
class AnyPolicy {
 public:
  AnyPolicy() : AnyPolicy(DefaultPolicy{}) {}
  template <class Policy>
  requires(!std::same_as<Policy, AnyPolicy> && RestorePolicy<Policy>) AnyPolicy(Policy policy)
      : policy_(std::make_shared<const Of<Policy>>(std::move(policy))), needs_costs_(policy_looks_at_costs<Policy>) {}

  /// Whether it decides from costs.
  [[nodiscard]] bool needs_costs() const noexcept { return needs_costs_; }

  [[nodiscard]] std::vector<std::size_t> prefix(const RestoreSizes& sizes, const Costs& costs) const {
    return policy_->prefix(sizes, costs);
  }
  /// How to restore token by token, for the policies that do.
  [[nodiscard]] std::optional<TokenSplit> split(const RestoreSizes& sizes, const Costs& costs) const {
    return policy_->split(sizes, costs);
  }

 private:
  struct Interface : detail::Erased {
    [[nodiscard]] virtual std::vector<std::size_t> prefix(const RestoreSizes& sizes, const Costs& costs) const = 0;
    [[nodiscard]] virtual std::optional<TokenSplit> split(const RestoreSizes& sizes, const Costs& costs) const = 0;
  };
  template <class Policy>
  struct Of final : Interface {
    explicit Of(Policy held_policy) : held(std::move(held_policy)) {}
    std::vector<std::size_t> prefix(const RestoreSizes& sizes, const Costs& costs) const override {
      return held.prefix(sizes, costs);
    }
    std::optional<TokenSplit> split(const RestoreSizes& sizes, const Costs& costs) const override {
      if constexpr (TokenOrderPolicy<Policy>) {
        return held.split(sizes, costs);
      } else {
        return std::nullopt;
      }
    }
    Policy held;
  };

  std::shared_ptr<const Interface> policy_;
  bool needs_costs_;
};
static_assert(RestorePolicy<AnyPolicy> && TokenOrderPolicy<AnyPolicy>);

}  // namespace krul
