#pragma once

#include <concepts>
#include <memory>
#include <string>
#include <utility>

#include "krul/core/detail/erased.hpp"
#include "krul/restore/any_policy.hpp"
#include "krul/strategy/strategy.hpp"

namespace krul {

/// A strategy chosen while the program runs: of the catalogue, or anyone's. A value; copies share the strategy, which
/// is const.
class AnyStrategy {
 public:
  template <class S>
  requires(!std::same_as<S, AnyStrategy> && Strategy<S>) AnyStrategy(S strategy)
      : strategy_(std::make_shared<const Of<S>>(std::move(strategy))) {}

  [[nodiscard]] std::string name() const { return strategy_->name(); }
  [[nodiscard]] Needs needs() const { return strategy_->needs(); }
  /// The plan, under the strategy's name.
  [[nodiscard]] Result<SavePlan> plan(const Evidence& evidence) const {
    auto plan = strategy_->plan(evidence);
    if (plan) plan->strategy = name();
    return plan;
  }
  [[nodiscard]] AnyPolicy restore_policy() const { return strategy_->restore_policy(); }

 private:
  struct Interface : detail::Erased {
    [[nodiscard]] virtual std::string name() const = 0;
    [[nodiscard]] virtual Needs needs() const = 0;
    [[nodiscard]] virtual Result<SavePlan> plan(const Evidence& evidence) const = 0;
    [[nodiscard]] virtual AnyPolicy restore_policy() const = 0;
  };
  template <class S>
  struct Of final : Interface {
    explicit Of(S held_strategy) : held(std::move(held_strategy)) {}
    std::string name() const override { return held.name(); }
    Needs needs() const override { return held.needs(); }
    [[nodiscard]] Result<SavePlan> plan(const Evidence& evidence) const override { return held.plan(evidence); }
    AnyPolicy restore_policy() const override { return held.restore_policy(); }
    S held;
  };

  std::shared_ptr<const Interface> strategy_;
};
static_assert(Strategy<AnyStrategy>);

}  // namespace krul
