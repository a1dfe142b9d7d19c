#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "krul/core/error.hpp"
#include "krul/simulate/outcome.hpp"
#include "krul/strategy/any_strategy.hpp"

namespace krul::simulate {

/// What a strategy of the catalogue, or anyone's, makes of a scene: its own plan from the evidence that a scene gives,
/// and its own restore policy under the scene's costs.
/// @return unsupported if it needs what no scene has: attention, key masses, predictability or a profile; or codes rows
///         otherwise than as f16, as int8 or as pairs merged to f16. What its plan says if it cannot plan
/// @throws PreconditionError if the scene is not valid, or its model computes on a device
/// @complexity that of its plan and its policy
[[nodiscard]] Result<Outcome> simulate_restore(const AnyStrategy& strategy, const Scene& scene);

/// A name for a way to bring a conversation back.
struct SimulatedStrategy {
  std::string name;
  std::string_view meaning;
  std::function<Outcome(const Scene&)> simulate;
};

/// Every strategy that can be simulated: those of the catalogue whose needs a scene meets, the paper's with pairs that
/// stand for what attention would choose, and krul's joint codings by what they reached elsewhere.
[[nodiscard]] std::span<const SimulatedStrategy> simulated_strategies();

/// @return null if there is no such strategy
[[nodiscard]] const SimulatedStrategy* simulated_strategy(std::string_view name);

}  // namespace krul::simulate
