#include "machine_costs.hpp"

#include <cmath>
#include <cstdio>

#include "device_name.hpp"
#include "krul/eval/disk_costs.hpp"
#include "krul/strategy/catalogue.hpp"

namespace krul::cli {
namespace {

/// What a first start may take to measure a machine, in seconds.
constexpr double first_start_s = 30;

/// @param link  what leads to the store
std::filesystem::path machine_costs_file(const LoadedModel& model, const MeasuredPlace& place) {
  const std::string link = place.far ? place.far->name : "disk";
  // The identity of a model on a device names neither the device nor the host's threads, which decode.
  const std::string where = model.device.empty() ? "" : " " + model.device + " " + model.threads;
  return cache_folder() / "costs" / eval::costs_file_name(model.backend.identity(), link + where);
}

/// Keeps them for later starts.
Status keep_costs(const MachineCosts& costs, const LoadedModel& model, const MeasuredPlace& place) {
  auto kept = eval::keep(costs, machine_costs_file(model, place));
  if (!kept) kept.error().message += "; set KRUL_CACHE to a folder that can be written";
  return kept;
}

/// The same, or says why that is not possible.
void try_to_keep(const MachineCosts& costs, const LoadedModel& model, const MeasuredPlace& place, const Tool& tool) {
  if (const auto kept = keep_costs(costs, model, place); !kept)
    tool.say("(what was measured is not kept: " + kept.error().message + ")");
}

std::optional<MachineCosts> known_costs(const LoadedModel& model, const MeasuredPlace& place) {
  auto kept = eval::costs_in(machine_costs_file(model, place));
  return kept ? std::optional(std::move(*kept)) : std::nullopt;
}

std::vector<AnyStrategy> all_strategies(const std::shared_ptr<const Profile>& profile) {
  std::vector<AnyStrategy> strategies;
  for (const auto& listed : strategy::catalogue(profile)) strategies.push_back(listed.strategy);
  return strategies;
}

/// How a store is measured, and which.
struct Measuring {
  MeasuredPlace place;
  double patience_s = calibration_patience_s;
  eval::Hurry hurry = eval::Hurry::none;
};

/// Adds what is missing; what was measured until something failed is among the costs.
Status measure_missing(std::optional<MachineCosts>& costs, LoadedModel& model, std::span<const AnyStrategy> strategies,
                       const Measuring& how, const Tool& tool) {
  const eval::CostMeasurement measurement{
      .seconds = how.patience_s, .hurry = how.hurry, .progress = [&](const std::string& what) { tool.progress(what); }};
  Status measured = how.place.far
                        ? eval::MachineMeter<AnyModel, SteadyClock, eval::MachineLoad>(
                              model.backend, how.place.far->store, measurement)
                              .add_missing(costs, strategies)
                        : eval::add_missing_on_disk(costs, model.backend, strategies, how.place.folder, measurement);
  tool.progress("");
  return measured;
}

Json to_json(const LinkCosts& link) {
  return {{"latency_s", link.latency_s},
          {"bytes_per_s", link.bytes_per_s},
          {"open_s", link.open_s},
          {"core_s_per_byte", link.core_s_per_byte}};
}

Json to_json(const MachineCosts& machine) {
  const LayerCosts& layer = machine.costs.layer;
  Json explained = Json::array();
  for (const auto& restore : machine.explained)
    explained.push_back({{"history", restore.history},
                         {"recomputed", restore.recomputed},
                         {"prompt", restore.prompt},
                         {"measured_ms", restore.measured_s * 1e3},
                         {"explained_ms", restore.explained_s * 1e3}});
  Json json = {{"version", 4},
               {"layer",
                {{"call_s", layer.call_s},
                 {"project_row_s", layer.project_row_s},
                 {"finish_row_s", layer.finish_row_s},
                 {"attend_pair_s", layer.attend_pair_s},
                 {"attend_key_s", layer.attend_key_s}}},
               {"pass_s", machine.costs.pass_s},
               {"open_s", machine.costs.open_s},
               {"open_s_per_byte", machine.costs.open_s_per_byte},
               {"decode_row_s", machine.decoding},
               {"disk", to_json(machine.costs.link)},
               {"memory", to_json(machine.memory)},
               {"explained", explained},
               {"measured_s", machine.measured_s},
               {"disturbed", machine.disturbed},
               {"cut_short", machine.cut_short}};
  if (const CopyCosts& copy = machine.costs.copy; machine.costs.on.compute == Resource::device) {
    json["copy"] = {{"latency_s", copy.latency_s}, {"bytes_per_s", copy.bytes_per_s}, {"row_bytes", copy.row_bytes}};
    json["decoded_by_cores"] = machine.decoded_by_cores;
  }
  return json;
}

}  // namespace

void expect_leads_to(const ModelOptions& model, const LinkName& link) {
  if (link.to_device && DeviceName::parse(model.device).value().is_processor())
    throw Failure({ErrorCode::invalid_argument, "the link " + link.text +
                                                    " leads from memory to a device: add --device cuda, or use the "
                                                    "link memory"});
}

std::pair<MachineCosts, std::filesystem::path> measure_anew(LoadedModel& model, const MeasuredPlace& place,
                                                            const Tool& tool, double patience_s) {
  std::optional<MachineCosts> costs;
  unwrap(measure_missing(costs, model, all_strategies(nullptr), {place, patience_s}, tool));
  unwrap(keep_costs(*costs, model, place));
  return {std::move(*costs), machine_costs_file(model, place)};
}

MachineCosts read_machine_costs(const std::filesystem::path& file, Resource compute) {
  const auto costs = eval::machine_costs_from(unwrap(read_text(file)));
  if (costs && costs->costs.on.compute != compute)
    throw Failure({ErrorCode::invalid_argument, file.string() + " holds costs of a model on " +
                                                    (compute == Resource::cores ? "a device" : "the processor")});
  if (costs) return *costs;
  throw Failure({ErrorCode::corrupt, file.string() + " holds no costs, or those of another version of krul; krul "
                                                     "calibrate --machine writes them anew"});
}

std::optional<MachineCosts> quick_machine_costs(LoadedModel& model, const AnyStrategy& strategy,
                                                const MeasuredPlace& place, const Tool& tool) {
  auto costs = known_costs(model, place);
  if (costs && eval::missing_codings(costs, std::span(&strategy, 1), model.backend.geometry().layers).empty())
    return costs;
  tool.say("(measuring this machine once, in " + std::to_string(static_cast<int>(first_start_s)) +
           " s at most; --costs none goes without, krul calibrate --machine takes its time)");
  const auto measured =
      measure_missing(costs, model, std::span(&strategy, 1), {place, first_start_s, eval::Hurry::strict}, tool);
  if (!measured)
    tool.say(measured.error().code == ErrorCode::deadline
                 ? "(it cannot be measured so fast: what is missing is not planned for)"
                 : "(it cannot be measured, so restores are not planned: " + measured.error().message + ")");
  if (costs) try_to_keep(*costs, model, place, tool);
  return costs;
}

MachineCosts machine_costs(LoadedModel& model, const Tool& tool, const std::shared_ptr<const Profile>& profile,
                           double patience_s, const MeasuredPlace& place) {
  auto costs = known_costs(model, place);
  if (!costs) tool.say("measuring this machine once (krul calibrate --machine does it again)");
  const auto strategies = all_strategies(profile);
  if (!costs || !eval::missing_codings(costs, strategies, model.backend.geometry().layers).empty()) {
    unwrap(measure_missing(costs, model, strategies, {place, patience_s}, tool));
    try_to_keep(*costs, model, place, tool);
  }
  return std::move(*costs);
}

std::string note_on_costs(bool disturbed) {
  if (!disturbed) return "";
  return "predictions: others kept the machine busy when costs were measured; krul calibrate --machine does it again\n";
}

void calibrate_machine(const ModelOptions& which, const StoreOptions& store, const PatienceOption& patience,
                       const Tool& tool) {
  auto model = which.load(tool);
  // The store that is used without --store need not be there yet.
  const MeasuredPlace place =
      store.places.empty() ? MeasuredPlace{store.folder()} : store.measured(store.open(StoreUse::change));
  const auto [costs, file] = measure_anew(model, place, tool, patience.limit_s);
  const RoundsNote note{costs.disturbed, costs.cut_short};
  if (tool.json) {
    Json json = to_json(costs);
    json["file"] = file.string();
    json["run"] = note.run(model);
    tool.print(json);
    return;
  }
  const auto& link = costs.costs.link;
  const auto& layer = costs.costs.layer;
  std::printf(
      "one layer: %.1f us a call, %.2f + %.2f us a row (before + after attention), %.2f ns a row and key, %.2f us a "
      "key\n",
      layer.call_s * 1e6, layer.project_row_s * 1e6, layer.finish_row_s * 1e6, layer.attend_pair_s * 1e9,
      layer.attend_key_s * 1e6);
  std::printf("embedding and logits: %.2f ms\n", costs.costs.pass_s * 1e3);
  const auto by_whom = [&costs = costs](const std::string& coding) {
    if (costs.costs.on.compute == Resource::cores) return "";
    return costs.decoded_by_cores.contains(coding) ? ", by the cores" : ", by the device";
  };
  for (const auto& [codec, row_s] : costs.decoding)
    std::printf("decoding %-5s: %.3f us a row and layer%s\n", codec.c_str(), row_s * 1e6, by_whom(codec));
  std::printf("disk: %.0f MB/s, %.0f us a request; memory: %.0f MB/s\n", link.bytes_per_s / 1e6, link.latency_s * 1e6,
              costs.memory.bytes_per_s / 1e6);
  if (const CopyCosts& copy = costs.costs.copy; costs.costs.on.compute == Resource::device)
    std::printf("copies to the device: %.0f MB/s, %.0f us a copy\n", copy.bytes_per_s / 1e6, copy.latency_s * 1e6);
  std::printf("opening: %.2f ms and %.1f ns a byte of the manifest\n", costs.costs.open_s * 1e3,
              costs.costs.open_s_per_byte * 1e9);
  double worst = 0;
  for (const auto& restore : costs.explained)
    worst = std::max(worst, std::abs(restore.explained_s / restore.measured_s - 1));
  std::printf("explains the %zu kinds of restores that were measured within %.0f %%; took %.1f s\n",
              costs.explained.size(), worst * 100, costs.measured_s);
  std::printf("%skept in %s\n", note.text().c_str(), escaped(file.string()).c_str());
}

}  // namespace krul::cli
