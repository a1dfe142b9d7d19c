#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "krul/eval/machine_costs.hpp"
#include "rounds.hpp"
#include "tool.hpp"

namespace krul::cli {

using eval::LinkName, eval::MachineCosts, eval::parse_link, eval::parse_links, eval::throttled_latency_s;

/// Ends the program if the link leads to a device and the model is on the processor.
void expect_leads_to(const ModelOptions& model, const LinkName& link);

/// Those of this model, its kernels and threads that are kept; what is missing of what the catalogue needs is measured
/// now, however slow the model is, and kept where that is possible.
/// @param profile  that strategies code by; may be none
/// @param place    of the store
[[nodiscard]] MachineCosts machine_costs(LoadedModel& model, const Tool& tool,
                                         const std::shared_ptr<const Profile>& profile = {},
                                         double patience_s = calibration_patience_s,
                                         const MeasuredPlace& place = {cache_folder()});

/// What a conversation has to know of the machine: the kept costs; what one strategy lacks of them is measured now, in
/// half a minute at most, and kept where that is possible.
/// @return  nothing, and says why, if they cannot be measured so fast, or here
[[nodiscard]] std::optional<MachineCosts> quick_machine_costs(LoadedModel& model, const AnyStrategy& strategy,
                                                              const MeasuredPlace& place, const Tool& tool);

/// Measures all anew, as nothing else, and keeps it. Ends the program if that is not possible.
/// @return what was measured, and the file that holds it
std::pair<MachineCosts, std::filesystem::path> measure_anew(LoadedModel& model, const MeasuredPlace& place,
                                                            const Tool& tool, double patience_s);

/// The costs in a file that krul calibrate --machine wrote; ends the program if it is none, or of a model that computes
/// elsewhere.
[[nodiscard]] MachineCosts read_machine_costs(const std::filesystem::path& file, Resource compute = Resource::cores);

/// A line to stand beneath predictions from costs that were measured while others kept the machine busy; else nothing.
[[nodiscard]] std::string note_on_costs(bool disturbed);

/// krul calibrate --machine
void calibrate_machine(const ModelOptions& which, const StoreOptions& store, const PatienceOption& patience,
                       const Tool& tool);

}  // namespace krul::cli
