#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "krul/core/costs.hpp"
#include "krul/eval/patience.hpp"
#include "krul/strategy/any_strategy.hpp"
#include "krul/strategy/coding_costs.hpp"
#include "links.hpp"
#include "patience_option.hpp"
#include "rounds_note.hpp"
#include "tool.hpp"

namespace krul::cli {

/// What `krul calibrate --machine` measured for one model, kernels and number of threads; kept as a file.
struct MachineCosts {
  /// A restore that the costs were learnt from, and what they say of it.
  struct Explained {
    std::size_t history = 0, recomputed = 0, prompt = 0;  ///< tokens
    double measured_s = 0, explained_s = 0;
  };

  LayerCosts layer;                        ///< without decode_row_s
  double pass_s = 0;                       ///< seconds of everything outside the layers
  double open_s = 0, open_s_per_byte = 0;  ///< as in Costs
  DecodingTimes decode_row_s;
  LinkCosts disk, memory;
  double measured_s = 0;             ///< how long the measurement took
  RoundsNote rounds;                 ///< that it was measured in
  std::vector<Explained> explained;  ///< not kept

  /// What a planner has to know of a strategy's restores over a link.
  [[nodiscard]] Costs costs(const LinkName& link, const AnyStrategy& strategy, const Geometry& geometry) const;
  /// A relative link as the rate that it means for a history and a prompt; other links as they are.
  [[nodiscard]] LinkName resolved(const LinkName& link, const Geometry& geometry, std::size_t history,
                                  std::size_t prompt) const;
};

/// What a first start may take to measure a machine, in seconds.
inline constexpr double first_start_s = 30;

/// The file that holds the costs of this model, its kernels and threads.
[[nodiscard]] std::filesystem::path machine_costs_file(const LoadedModel& model);

/// Measures on this machine; the disk's part in a folder below `place`. Takes seconds, where others are busy as long as
/// patience lasts. Ends the program if the model's context is too short for it.
[[nodiscard]] MachineCosts measure_machine_costs(LoadedModel& model, const std::filesystem::path& place,
                                                 const Tool& tool, const eval::Patience<>& patience);

/// The costs in a file that save_machine_costs wrote; ends the program if it is none.
[[nodiscard]] MachineCosts read_machine_costs(const std::filesystem::path& file);

void save_machine_costs(const MachineCosts& costs, const std::filesystem::path& file);

/// The kept costs; what is missing is measured now, and kept where that is possible.
/// @param profile  that strategies code by; what decoding takes is measured once and kept; may be none
[[nodiscard]] MachineCosts machine_costs(LoadedModel& model, const Tool& tool,
                                         const std::shared_ptr<const Profile>& profile = {},
                                         const eval::Patience<>& patience = eval::Patience(calibration_patience_s));

/// What a talk has to know of the machine.
struct WantedCosts {
  AnyStrategy strategy;
  std::filesystem::path place;  ///< the disk is measured in a folder below it
};

/// The kept costs; what of them is missing is measured now, in first_start_s seconds at most, and kept where that is
/// possible.
/// @return nothing, and says why, if they cannot be measured so fast, or here
[[nodiscard]] std::optional<MachineCosts> quick_machine_costs(LoadedModel& model, const WantedCosts& wanted,
                                                              const Tool& tool);

/// A line to stand beneath predictions from costs that were measured while others kept the machine busy; else nothing.
[[nodiscard]] std::string note_on_costs(bool disturbed);

/// krul calibrate --machine
void calibrate_machine(const ModelOptions& which, const StoreOptions& store, const PatienceOption& patience,
                       const Tool& tool);

}  // namespace krul::cli
