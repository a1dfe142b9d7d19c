#include "krul/simulate/named.hpp"

#include <sstream>

namespace krul::simulate {
namespace {

template <class Named>
std::string names_of(const Named& all) {
  std::string names;
  for (const auto& one : all) names += (names.empty() ? "" : ", ") + std::string(one.name);
  return names;
}

}  // namespace

Result<ModelShape> shape_named(std::string_view name) {
  if (const ModelShape* shape = model_shape(name)) return *shape;
  return fail(ErrorCode::invalid_argument,
              "unknown geometry \"" + std::string(name) + "\"; there are: " + names_of(model_shapes()));
}

Result<Hardware> hardware_named(std::string_view name) {
  Hardware hardware;
  if (find_hardware(name, hardware)) return hardware;
  return fail(ErrorCode::invalid_argument, "unknown hardware \"" + std::string(name) + "\"; join one of " +
                                               names_of(accelerators()) + " and one of " + names_of(links()) +
                                               " with a hyphen");
}

Result<std::vector<SimulatedStrategy>> strategies_named(const std::string& names) {
  const auto all = simulated_strategies();
  if (names.empty()) return std::vector<SimulatedStrategy>(all.begin(), all.end());
  std::vector<SimulatedStrategy> found;
  std::stringstream list(names);
  for (std::string name; std::getline(list, name, ',');) {
    const SimulatedStrategy* strategy = simulated_strategy(name);
    if (!strategy)
      return fail(ErrorCode::invalid_argument, "unknown strategy \"" + name + "\"; there are: " + names_of(all));
    found.push_back(*strategy);
  }
  return found;
}

}  // namespace krul::simulate
