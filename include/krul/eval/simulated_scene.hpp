#pragma once

#include <cstddef>
#include <optional>

#include "krul/eval/machine_costs.hpp"
#include "krul/simulate/paper_figures.hpp"

namespace krul::eval {

/// A conversation of a model that comes back.
struct SimulatedReturn {
  simulate::ModelShape shape;
  std::size_t history = 2000;
  std::size_t prompt = 128;
};

/// The scene on a machine whose costs were measured, over a link of any kind: see simulate::measured_scene and
/// LinkName.
/// @return invalid_argument if the link is relative and no rate stands for it, or leads to a device and none computes
[[nodiscard]] Result<simulate::Scene> measured_scene(const MachineCosts& measured, const SimulatedReturn& of,
                                                     const LinkName& link);

/// The scene on hardware whose costs are counted: see simulate::device_scene.
/// @param link  in place of the hardware's own; none: that
/// @return invalid_argument as measured_scene, and if the link is the disk or memory, which hardware does not tell of
[[nodiscard]] Result<simulate::Scene> counted_scene(const simulate::Hardware& hardware, const SimulatedReturn& of,
                                                    const std::optional<LinkName>& link = {});

}  // namespace krul::eval
