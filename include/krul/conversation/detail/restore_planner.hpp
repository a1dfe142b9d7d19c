#pragma once

#include <optional>
#include <utility>

#include "krul/core/costs.hpp"
#include "krul/restore/any_policy.hpp"
#include "krul/restore/full_load.hpp"
#include "krul/restore/restoration_scheduler.hpp"

namespace krul::detail {

/// A strategy's restore policy, and the costs that it decides from, if anybody knows them. Without them a policy that
/// looks at costs is not asked, and all that is stored is read.
class RestorePlanner {
 public:
  explicit RestorePlanner(AnyPolicy policy) : scheduler_(std::move(policy)) {}

  /// Whether the policy has what it decides from.
  [[nodiscard]] bool plans(const std::optional<Costs>& costs) const noexcept {
    return costs || !scheduler_.policy().needs_costs();
  }
  [[nodiscard]] RestorePlan plan(const RestoreSizes& sizes, const std::optional<Costs>& costs) const {
    return plans(costs) ? scheduler_.plan(sizes, costs.value_or(Costs{}))
                        : RestorationScheduler<FullLoad>{}.plan(sizes, {});
  }
  /// How to restore token by token, if that is what the policy wants.
  [[nodiscard]] std::optional<TokenSplit> split(const RestoreSizes& sizes, const std::optional<Costs>& costs) const {
    return plans(costs) ? scheduler_.policy().split(sizes, costs.value_or(Costs{})) : std::nullopt;
  }
  /// Who decodes what the model could decode itself. Without costs of a device it does.
  [[nodiscard]] static Resource decode(const std::optional<Costs>& costs) noexcept {
    return costs && costs->on.compute == Resource::device ? costs->on.decode : Resource::device;
  }

 private:
  RestorationScheduler<AnyPolicy> scheduler_;
};

}  // namespace krul::detail
