#pragma once

#include <concepts>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "krul/compress/any_codec.hpp"
#include "krul/restore/best_of.hpp"
#include "krul/restore/full_load.hpp"
#include "krul/restore/full_recompute.hpp"
#include "krul/restore/pyramid.hpp"
#include "krul/restore/uniform_split.hpp"

namespace krul {

/// A restore policy chosen at run time.
class AnyPolicy {
 public:
  using Choice = std::variant<DefaultPolicy, FullRecompute, FullLoad, UniformSplit, Pyramid>;
  AnyPolicy() = default;
  template <class Policy>
  requires std::constructible_from<Choice, Policy> AnyPolicy(Policy policy) : choice_(std::move(policy)) {}
  [[nodiscard]] std::vector<std::size_t> prefix(const RestoreSizes& sizes, const Costs& costs) const {
    return std::visit([&](const auto& policy) { return policy.prefix(sizes, costs); }, choice_);
  }

 private:
  Choice choice_ = DefaultPolicy{};
};
static_assert(RestorePolicy<AnyPolicy>);

/// A name for how rows are stored and how they are brought back.
struct Strategy {
  std::string_view name;
  std::string_view codec;  ///< name of the row codec; "" uses the cache's own bytes
  AnyPolicy policy;
  std::string_view meaning;
};

/// Every strategy there is; the last one is the default.
[[nodiscard]] inline const std::vector<Strategy>& strategies() {
  static const std::vector<Strategy> all = {
      {"recompute", "exact", FullRecompute{}, "nothing is read; the whole history runs through the model again"},
      {"load-exact", "exact", FullLoad{}, "the cache's own bytes, all of them read"},
      {"load-f16", "f16", FullLoad{}, "two bytes a value, all of them read"},
      {"load-int8", "int8", FullLoad{}, "one byte a value, all of them read"},
      {"partial", "f16", UniformSplit{},
       "the same front recomputed in every layer, the rest read at two bytes a value"},
      {"krul", "int8", DefaultPolicy{}, "one byte a value, the fastest of the four schedules for the link"},
  };
  return all;
}

/// @return invalid_argument that lists the names, if there is no such strategy
[[nodiscard]] inline Result<Strategy> strategy_named(std::string_view name) {
  std::string names;
  for (const auto& strategy : strategies()) {
    if (strategy.name == name) return strategy;
    names += (names.empty() ? "" : ", ") + std::string(strategy.name);
  }
  return fail(ErrorCode::invalid_argument, "unknown strategy \"" + std::string(name) + "\"; there are: " + names);
}

/// Several names, separated by commas.
[[nodiscard]] inline Result<std::vector<Strategy>> strategies_named(const std::string& names) {
  std::vector<Strategy> found;
  std::stringstream list(names);
  for (std::string name; std::getline(list, name, ',');) {
    auto strategy = strategy_named(name);
    if (!strategy) return propagate(strategy);
    found.push_back(std::move(*strategy));
  }
  return found;
}

}  // namespace krul
