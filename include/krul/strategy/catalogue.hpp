#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/strategy/any_strategy.hpp"

namespace krul::strategy {

/// A strategy, and what a list says of it.
struct Listed {
  AnyStrategy strategy;
  std::string_view meaning;
};

/// Every strategy of krul's: those of the paper's evaluation, then variants that isolate one part, then krul's own. A
/// program that has more appends them to its own copy. Each is a value with a header of its own in strategy/catalogue/.
/// @param profile  of the model, for those that code by it; may be none
[[nodiscard]] std::vector<Listed> catalogue(const std::shared_ptr<const Profile>& profile = {});

/// The strategy of that name.
/// @return invalid_argument that lists the names, if there is none
[[nodiscard]] Result<AnyStrategy> named(const std::vector<Listed>& list, std::string_view name);

/// Several strategies, their names separated by commas.
[[nodiscard]] Result<std::vector<AnyStrategy>> all_named(const std::vector<Listed>& list, const std::string& names);

/// What a conversation uses unless it is told otherwise: krul, without a profile.
[[nodiscard]] AnyStrategy default_strategy();

}  // namespace krul::strategy
