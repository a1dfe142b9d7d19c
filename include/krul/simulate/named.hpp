#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/simulate/hardware.hpp"
#include "krul/simulate/model_shape.hpp"
#include "krul/simulate/strategies.hpp"

namespace krul::simulate {

/// The model of that name.
/// @return invalid_argument that lists the names, if there is none
[[nodiscard]] Result<ModelShape> shape_named(std::string_view name);

/// The accelerator and the link of a name such as "a100-pcie4".
/// @return invalid_argument that lists the names, if there is no such pair
[[nodiscard]] Result<Hardware> hardware_named(std::string_view name);

/// Several strategies, their names separated by commas; all of them for an empty text.
/// @return invalid_argument that lists the names, if there is no such strategy
[[nodiscard]] Result<std::vector<SimulatedStrategy>> strategies_named(const std::string& names);

}  // namespace krul::simulate
