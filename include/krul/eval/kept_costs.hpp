#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/core/checksum.hpp"
#include "krul/core/file_io.hpp"
#include "krul/core/identity.hpp"
#include "krul/core/private_folders.hpp"
#include "krul/eval/measure_machine.hpp"

namespace krul::eval {

/// A file's name for the costs of this model on this machine, over a kind of store that the caller names: other
/// weights, kernels, processors and numbers of threads have other costs.
[[nodiscard]] inline std::string costs_file_name(const Identity& model, const std::string& store) {
  const std::string what =
      model.weights + model.geometry + model.kernels + model.processor + model.threads + " " + store;
  return hexadecimal(checksum(std::as_bytes(std::span(what)))) + ".costs";
}

/// Writes costs to a file, whole or not at all. Folders that are missing are made for this user alone.
/// @return io, with the file and the system's reason, if they cannot be kept
[[nodiscard]] inline Status keep(const MachineCosts& machine, const std::filesystem::path& file) {
  if (file.has_parent_path())
    if (auto made = make_private_folders(file.parent_path()); !made) return made;
  const Status written = replace_file(file, to_text(machine));
  return written ? written : fail(ErrorCode::io, written.error().message);
}

/// The costs that keep has kept in a file.
/// @return not_found if it cannot be read; as machine_costs_from
[[nodiscard]] inline Result<MachineCosts> costs_in(const std::filesystem::path& file) {
  std::ifstream in(file);
  if (!in) return fail(ErrorCode::not_found, "cannot read " + file.string());
  return machine_costs_from(std::string(std::istreambuf_iterator<char>(in), {}));
}

/// measure_costs that remembers: reads a file, measures what it lacks, and writes it again, with what was measured
/// until something failed. A file that cannot be read or written only means that costs are measured again the next
/// time.
/// @return and throws as measure_costs
template <ModelBackend B, ConversationStore S, Clock C = SteadyClock>
[[nodiscard]] Result<MachineCosts> kept_costs(B& model, S& store, const std::vector<AnyStrategy>& strategies,
                                              const std::filesystem::path& file, const CostMeasurement& how = {}) {
  std::optional<MachineCosts> known;
  if (auto kept = costs_in(file)) known = std::move(*kept);
  const std::string before = known ? to_text(*known) : "";
  MachineMeter<B, C> meter(model, AnyStore::borrowed(store), how);
  const Status measured = meter.add_missing(known, strategies);
  if (known && to_text(*known) != before) static_cast<void>(keep(*known, file));
  if (!measured) return propagate(measured);
  return std::move(*known);
}

}  // namespace krul::eval
