#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/eval/measure_costs.hpp"
#include "krul/eval/statistics.hpp"
#include "krul/restore/cost_fit.hpp"

namespace krul::eval {

/// What copying to a device takes, from restores that load rows.
/// @param restores   [shapes, repeats]
/// @param row_bytes  K and V of a token in one layer as the cache holds them
/// @return           the default, but for row_bytes, if nothing was copied
[[nodiscard]] inline CopyCosts fit_copies(std::span<const std::vector<TimedRestore>> restores,
                                          std::uint64_t row_bytes) {
  CopyCosts costs{.row_bytes = row_bytes};
  std::vector<std::array<double, 2>> copied;  // copies, bytes
  std::vector<double> copy_s;
  for (const auto& repeats : restores) {
    const RestoreReport& first = repeats.front().report;
    std::vector<double> each_s;
    for (const TimedRestore& restore : repeats) each_s.push_back(restore.report.busy[Resource::copy]);
    const auto copies = std::ranges::count_if(first.timeline.events(),
                                              [](const Event& event) { return event.resource == Resource::link; });
    if (copies == 0 || median(each_s) <= 0) continue;
    copied.push_back(
        {static_cast<double>(copies), static_cast<double>(row_bytes) * static_cast<double>(first.loaded_rows)});
    copy_s.push_back(median(each_s));
  }
  if (copied.empty()) return costs;
  const auto [copy, byte] = fit_sum<2>(copied, copy_s);
  costs.latency_s = copy;
  costs.bytes_per_s = 1 / std::max(byte, 1e-15);
  return costs;
}

/// Seconds that a resource decoded.
[[nodiscard]] inline double decoded_s(const RestoreReport& report, Resource resource) {
  double seconds = 0;
  for (const Event& event : report.timeline.events())
    if (event.resource == resource && event.name == "decode") seconds += event.end_s - event.begin_s;
  return seconds;
}

/// fit_costs for a model that computes on a device. A device is asked for its steps and not waited for, so that no step
/// has a time of its own: what computing takes comes from whole passes, and what cannot be told apart there, such as
/// the calls of layers, counts once a pass. Who decodes is left as it was in these restores: see MachineCosts::of.
/// @param restores   [shapes, repeats], read from memory, decoded by the cores so that rows are copied
/// @param row_bytes  as in fit_copies
/// @throws           PreconditionError if there are none
[[nodiscard]] inline Costs fit_device_costs(std::span<const std::vector<TimedRestore>> restores,
                                            std::uint64_t row_bytes) {
  expects(!restores.empty(), "fit_device_costs: needs restores");
  std::vector<std::array<double, 4>> passes;  // one, rows, pairs and keys of all layers
  std::vector<double> device_s;
  for (const auto& repeats : restores) {
    expects(!repeats.empty(), "fit_device_costs: each shape needs a restore");
    const LayerSample layer = layer_sample(repeats.front());
    const auto layers = static_cast<double>(repeats.front().sizes.layers.size());
    passes.push_back({1, layers * layer.projected_rows, layers * layer.pairs, layers * layer.keys});
    std::vector<double> each_s;
    for (const auto& [shape, sizes, manifest_bytes, report] : repeats)
      each_s.push_back(report.busy[Resource::device] - decoded_s(report, Resource::device));
    device_s.push_back(std::max(median(each_s), 1e-9));
  }
  const auto [pass_s, row_s, pair_s, key_s] = fit_sum<4>(passes, device_s);
  // All rows of these restores are projected and finished. In models of this kind the output projection and the MLP
  // have six in seven of a layer's weights, more or less.
  constexpr double finished = 6.0 / 7;
  const Line opening = fit_opening(restores);
  return {.link = {},
          .layer = {.project_row_s = (1 - finished) * row_s,
                    .finish_row_s = finished * row_s,
                    .attend_pair_s = pair_s,
                    .attend_key_s = key_s},
          .pass_s = pass_s,
          .open_s = opening.constant,
          .open_s_per_byte = opening.slope,
          .copy = fit_copies(restores, row_bytes),
          .on = {.compute = Resource::device, .decode = Resource::cores}};
}

}  // namespace krul::eval
