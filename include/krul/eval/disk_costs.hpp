#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <utility>

#include "krul/eval/kept_costs.hpp"
#include "krul/eval/machine_load.hpp"
#include "krul/eval/scratch_disk.hpp"

namespace krul::eval {

/// Adds to costs, which may be none, what is missing of a disk: whatever strategies' restores need of a store there and
/// nobody has measured. Reads come from the disk, not from the page cache; rounds in which other processes keep this
/// machine busy are repeated.
/// @param place  a folder of the disk, which nothing is left in
/// @post         if something fails, the costs have what was measured until then
/// @return       as ScratchDisk::make and MachineMeter::add_missing
template <ModelBackend B, Clock C = SteadyClock, LoadProbe P = MachineLoad>
[[nodiscard]] Status add_missing_on_disk(std::optional<MachineCosts>& costs, B& model,
                                         std::span<const AnyStrategy> strategies, const std::filesystem::path& place,
                                         CostMeasurement how = {}) {
  auto disk = ScratchDisk::make(place);
  if (!disk) return propagate(disk);
  how.before_read = [&disk] { disk->cool(); };
  return MachineMeter<B, C, P>(model, disk->store(), std::move(how), C(), P()).add_missing(costs, strategies);
}

}  // namespace krul::eval
