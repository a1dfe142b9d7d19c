#include "machine_costs.hpp"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "krul/compress/chunk_coding.hpp"
#include "krul/eval/measure_costs.hpp"
#include "krul/select/fixed_pairs.hpp"
#include "krul/select/strategy_selector.hpp"
#include "krul/store/checksum.hpp"
#include "krul/store/memory_store.hpp"
#include "page_cache.hpp"
#include "run_rounds.hpp"

namespace krul::cli {
namespace {

/// Of the file with the costs; another one is measured again.
constexpr int costs_version = 4;

/// What the decoding of a profile's coding is called among the codecs.
std::string profile_key(const std::string& profile, StepScale step) {
  return profile + " step " + std::to_string(step.code);
}

using Restores = std::vector<std::vector<eval::TimedRestore>>;

/// Runs restores in rounds, so that a slow minute of the machine meets all alike; rounds in which others were at work
/// are repeated while patience lasts.
class RestoreRounds {
 public:
  RestoreRounds(const Tool& tool, const eval::Patience<>& patience) : tool_(tool), patience_(patience) {}

  /// @param what    is measured, for people
  /// @param shares  of what is left of patience: this measurement may take one of them
  /// @return        [alternatives, restores of the rounds that count]
  [[nodiscard]] Restores run(const std::string& what,
                             std::span<const eval::Alternative<eval::TimedRestore>> alternatives, std::size_t shares) {
    auto report = run_rounds(tool_, "measuring " + what, alternatives,
                             {.clean_rounds = 3,
                              .most_rounds = 5,
                              .warm_up_rounds = 0,  // a cold round is no median of three
                              .least_round_s = 0,
                              .patience_s = patience_.share_s(shares)});
    note_.add(report);
    Restores restores(alternatives.size());
    for (auto& round : report.rounds)
      for (std::size_t i = 0; i < restores.size(); ++i)
        std::ranges::move(round.passes[i], std::back_inserter(restores[i]));
    return restores;
  }

  /// On all that were run.
  [[nodiscard]] const RoundsNote& note() const noexcept { return note_; }

 private:
  const Tool& tool_;
  const eval::Patience<>& patience_;
  RoundsNote note_;
};

template <ConversationStore S>
eval::Alternative<eval::TimedRestore> restore_from(eval::CostMeter<CpuModel>& meter, S& store,
                                                   const eval::RestoreShape& shape) {
  return {"", [&meter, &store, shape] { return unwrap(meter.restore(store, shape)); }};
}

/// How rows are coded, and what that is called among the costs.
struct NamedPlan {
  std::string name;
  SavePlan plan;
};

/// Seconds a stored row of one layer takes to become a row of the cache again, with all workers at it.
/// @param shares  as RestoreRounds::run
double measure_decode_row_s(RestoreRounds& rounds, eval::CostMeter<CpuModel>& meter, const NamedPlan& coding,
                            std::size_t threads, std::size_t shares) {
  MemoryStore store;
  const eval::RestoreShape shape{std::max<std::size_t>(meter.longest() / 4, 1), 0, 1};
  unwrap(meter.save(store, shape.history, coding.plan, threads));
  std::vector<double> row_s;
  const eval::Alternative<eval::TimedRestore> alternative{
      "", [&] { return unwrap(meter.restore(store, shape, coding.plan.profile)); }};
  const Restores restores = rounds.run("how " + coding.name + " is decoded", std::span(&alternative, 1), shares);
  for (const auto& restore : restores.front()) {
    double seconds = 0;
    for (const auto& event : restore.report.timeline.events())
      if (event.name == "decode") seconds += event.end_s - event.begin_s;
    row_s.push_back(seconds / static_cast<double>(shape.history * restore.sizes.layers.size()));
  }
  return eval::median(row_s);
}

/// Those of some restores that loaded something.
Restores loading(const Restores& restores) {
  Restores found;
  std::ranges::copy_if(restores, std::back_inserter(found),
                       [](const auto& repeated) { return repeated.front().report.bytes > 0; });
  return found;
}

Json to_json(const LinkCosts& link) {
  return {{"latency_s", link.latency_s}, {"bytes_per_s", link.bytes_per_s}, {"core_s_per_byte", link.core_s_per_byte}};
}

LinkCosts link_from(const Json& json) {
  return {json.at("latency_s").get<double>(), json.at("bytes_per_s").get<double>(),
          json.at("core_s_per_byte").get<double>()};
}

Json to_json(const MachineCosts& costs) {
  Json explained = Json::array();
  for (const auto& restore : costs.explained)
    explained.push_back({{"history", restore.history},
                         {"recomputed", restore.recomputed},
                         {"prompt", restore.prompt},
                         {"measured_ms", restore.measured_s * 1e3},
                         {"explained_ms", restore.explained_s * 1e3}});
  return {{"version", costs_version},
          {"layer",
           {{"call_s", costs.layer.call_s},
            {"project_row_s", costs.layer.project_row_s},
            {"finish_row_s", costs.layer.finish_row_s},
            {"attend_pair_s", costs.layer.attend_pair_s},
            {"attend_key_s", costs.layer.attend_key_s}}},
          {"pass_s", costs.pass_s},
          {"open_s", costs.open_s},
          {"open_s_per_byte", costs.open_s_per_byte},
          {"decode_row_s", costs.decode_row_s},
          {"disk", to_json(costs.disk)},
          {"memory", to_json(costs.memory)},
          {"explained", explained},
          {"measured_s", costs.measured_s},
          {"disturbed", costs.rounds.disturbed},
          {"cut_short", costs.rounds.cut_short}};
}

/// None of another version. Throws what Json throws if it is not what to_json makes.
std::optional<MachineCosts> costs_from(const Json& json) {
  if (json.at("version").get<int>() != costs_version) return std::nullopt;
  MachineCosts costs;
  const Json& layer = json.at("layer");
  costs.layer.call_s = layer.at("call_s").get<double>();
  costs.layer.project_row_s = layer.at("project_row_s").get<double>();
  costs.layer.finish_row_s = layer.at("finish_row_s").get<double>();
  costs.layer.attend_pair_s = layer.at("attend_pair_s").get<double>();
  costs.layer.attend_key_s = layer.at("attend_key_s").get<double>();
  costs.pass_s = json.at("pass_s").get<double>();
  costs.open_s = json.at("open_s").get<double>();
  costs.open_s_per_byte = json.at("open_s_per_byte").get<double>();
  costs.decode_row_s = json.at("decode_row_s").get<std::map<std::string, double>>();
  costs.disk = link_from(json.at("disk"));
  costs.memory = link_from(json.at("memory"));
  costs.measured_s = json.at("measured_s").get<double>();
  costs.rounds = {json.value("disturbed", false), json.value("cut_short", false)};
  return costs;
}

}  // namespace

Costs MachineCosts::costs(const LinkName& link, std::string_view codec) const {
  Costs result{.link = {}, .layer = layer, .pass_s = pass_s, .open_s = open_s, .open_s_per_byte = open_s_per_byte};
  const auto decode = decode_row_s.find(std::string(codec));
  result.layer.decode_row_s = decode == decode_row_s.end() ? 0 : decode->second;
  expects(link.kind != LinkName::Kind::relative, "MachineCosts: the relative link must be resolved first");
  if (link.kind == LinkName::Kind::rate) {
    // The link's bucket fills up while a request waits, so that requests one after another lose no time.
    result.link = {0, link.bytes_per_s, memory.core_s_per_byte};
  } else {
    result.link = link.kind == LinkName::Kind::disk ? disk : memory;
  }
  return result;
}

Costs MachineCosts::costs(const LinkName& link, const Strategy& strategy, const Geometry& geometry) const {
  Costs result = costs(link, strategy.codec);
  const auto joint = strategy.step ? decode_row_s.find(profile_key(profile, *strategy.step)) : decode_row_s.end();
  if (joint != decode_row_s.end()) result.layer.joint_row_s = joint->second;
  const auto merged = decode_row_s.find("merged");
  if (strategy.pairs != PairChoice::none && merged != decode_row_s.end()) {
    const auto layers = static_cast<double>(geometry.layers);
    const double share =
        2 * static_cast<double>(StrategySelector<NoSharing>::pairs_for(geometry.layers, 0.75)) / layers;
    result.layer.decode_row_s += share * (merged->second - result.layer.decode_row_s);
  }
  return result;
}

LinkName MachineCosts::resolved(const LinkName& link, const Geometry& geometry, std::size_t history,
                                std::size_t prompt) const {
  if (link.kind != LinkName::Kind::relative) return link;
  RestoreSizes sizes = sizes_if_stored(history, 64, geometry.layers, {}, {});
  sizes.prompt = prompt;
  const Costs any{.link = {}, .layer = layer, .pass_s = pass_s};
  const double recompute_s = Predictor(sizes, any)(std::vector<std::size_t>(geometry.layers, history)).cores_s;
  const double rate = static_cast<double>(history * geometry.f16_token_bytes()) * link.factor / recompute_s;
  return {link.text + " (" + human_bytes(rate) + "/s)", LinkName::Kind::rate, rate, link.factor};
}

std::filesystem::path machine_costs_file(const LoadedModel& model) {
  const Identity& identity = model.backend.identity();
  const std::string what =
      identity.weights + identity.geometry + identity.kernels + identity.processor + identity.threads;
  return cache_folder() / "costs" / (hexadecimal(checksum(std::as_bytes(std::span(what)))) + ".json");
}

MachineCosts measure_machine_costs(LoadedModel& model, const std::filesystem::path& store_folder, const Tool& tool,
                                   const eval::Patience<>& patience) {
  const SteadyClock clock;
  const TimePoint start = clock.now();
  MachineCosts costs;
  const std::size_t threads = model.backend.workers().threads();
  const Geometry& geometry = model.backend.geometry();
  RestoreRounds rounds(tool, patience);
  eval::CostMeter<CpuModel> meter(model.backend);
  const auto shapes = eval::calibration_shapes(meter.longest());
  const SavePlan plain = SavePlan::separate(Int8Codec{});
  const auto save_all = [&](auto& store) {
    std::size_t saved = 0;
    for (const auto& shape : shapes)
      if (shape.history != std::exchange(saved, shape.history))
        unwrap(meter.save(store, shape.history, plain, threads));
  };
  MemoryStore memory;
  save_all(memory);
  std::vector<eval::Alternative<eval::TimedRestore>> alternatives;
  for (const auto& shape : shapes) alternatives.push_back(restore_from(meter, memory, shape));
  const Restores restores = rounds.run("restores from memory", alternatives, 2);
  Costs fitted = eval::fit_costs(restores);
  costs.memory = eval::fit_link(loading(restores));
  // A read from memory is a copy and a checksum, all of it on a core that the others do without meanwhile.
  costs.memory.core_s_per_byte = 1 / costs.memory.bytes_per_s / static_cast<double>(threads);
  costs.layer = fitted.layer;
  costs.pass_s = fitted.pass_s;
  costs.open_s = fitted.open_s;
  costs.open_s_per_byte = fitted.open_s_per_byte;
  fitted.link = costs.memory;
  for (const auto& repeated : restores) {
    std::vector<double> measured_s;
    for (const auto& restore : repeated) measured_s.push_back(restore.report.total_s());
    const auto& [shape, sizes, manifest_bytes, report] = repeated.front();
    costs.explained.push_back(
        {shape.history, report.plan.prefix.front(), shape.prompt, eval::median(measured_s),
         predict(report.plan, sizes, fitted).first_token_s + predict_opening_s(fitted, manifest_bytes)});
  }

  {
    const TemporaryFolder folder{store_folder / ("calibration-" + std::to_string(::getpid()))};
    auto disk = unwrap(FileStore::open(folder.path));
    save_all(disk);
    alternatives.clear();
    for (const auto& shape : shapes) {
      if (shape.front > 0.2 || shape.prompt != 32) continue;
      alternatives.push_back({"", [&meter, &disk, &folder, shape] {
                                drop_from_page_cache(folder.path);
                                return unwrap(meter.restore(disk, shape));
                              }});
      alternatives.push_back(restore_from(meter, memory, shape));
    }
    Restores from_disk, from_memory;
    for (auto& repeated : rounds.run("restores from disk", alternatives, 2))
      (from_disk.size() == from_memory.size() ? from_disk : from_memory).push_back(std::move(repeated));
    costs.disk = eval::fit_link(from_disk);
    costs.disk.core_s_per_byte = costs.memory.core_s_per_byte + eval::extra_core_s_per_byte(from_disk, from_memory);
  }

  std::vector<NamedPlan> codings;
  for (const AnyRowCodec& codec : AnyRowCodec::all())
    codings.push_back({std::string(codec.name()), SavePlan::separate(codec)});
  SavePlan merged = SavePlan::separate(F16Codec{});
  merged.pair_coding = {SlerpMerge{}, F16Codec{}};
  for (std::size_t layer = 0; layer + 1 < geometry.layers; layer += 2) merged.pairs.push_back({layer, layer + 1});
  codings.push_back({"merged", merged});
  for (std::size_t i = 0; i < codings.size(); ++i)
    costs.decode_row_s[codings[i].name] = measure_decode_row_s(rounds, meter, codings[i], threads, codings.size() - i);
  costs.rounds = rounds.note();
  costs.measured_s = seconds(clock.now() - start);
  tool.progress("");
  return costs;
}

MachineCosts read_machine_costs(const std::filesystem::path& file) {
  const auto json = Json::parse(unwrap(read_text(file)), nullptr, false);
  try {
    if (auto costs = json.is_discarded() ? std::nullopt : costs_from(json)) return std::move(*costs);
  } catch (const nlohmann::json::exception&) {
    // Some other JSON.
  }
  throw Failure({ErrorCode::corrupt, file.string() + " holds no costs, or those of another version of krul; krul "
                                                     "calibrate --machine writes them anew"});
}

void save_machine_costs(const MachineCosts& costs, const std::filesystem::path& file) {
  std::error_code error;
  std::filesystem::create_directories(file.parent_path(), error);
  const auto temporary = file.string() + ".new";
  std::ofstream out(temporary);
  out << to_json(costs).dump(2) << "\n";
  out.close();
  if (out) std::filesystem::rename(temporary, file, error);
  if (!out || error)
    throw Failure(
        {ErrorCode::io, "cannot write " + file.string() + "; set KRUL_CACHE to a folder that can be written"});
}

namespace {

/// The kept costs, or measured now (and kept) if there are none.
MachineCosts costs_of_machine(LoadedModel& model, const Tool& tool, const eval::Patience<>& patience) {
  const auto file = machine_costs_file(model);
  if (std::filesystem::exists(file)) {
    const auto text = read_text(file);
    const auto json = Json::parse(text.value_or(""), nullptr, false);
    try {
      if (auto costs = json.is_discarded() ? std::nullopt : costs_from(json)) return std::move(*costs);
    } catch (const nlohmann::json::exception&) {
      // Damaged or of an older version: measured again below.
    }
  }
  tool.say("measuring this machine once (krul calibrate --machine does it again)");
  const auto costs = measure_machine_costs(model, cache_folder() / "conversations", tool, patience);
  save_machine_costs(costs, file);
  return costs;
}

/// Sets the profile that strategies code by. What decoding takes is measured once and kept.
void measure_profile_costs(MachineCosts& costs, LoadedModel& model, const std::shared_ptr<const Profile>& profile,
                           RestoreRounds& rounds) {
  if (!profile) return;
  costs.profile = std::string(profile_prefix) + profile->hash();
  std::map<std::string, SavePlan> unknown;
  for (const Strategy& strategy : strategies())
    if (strategy.step)
      if (const auto key = profile_key(costs.profile, *strategy.step); !costs.decode_row_s.contains(key))
        unknown.emplace(key, SavePlan::joint(profile, *strategy.step));
  if (unknown.empty()) return;
  constexpr std::size_t tokens = 1024;
  eval::CostMeter<CpuModel> meter(model.backend, tokens);
  std::size_t to_come = unknown.size();
  for (const auto& [key, plan] : unknown)
    costs.decode_row_s[key] =
        measure_decode_row_s(rounds, meter, {key, plan}, model.backend.workers().threads(), to_come--);
  costs.rounds.add(rounds.note());
  save_machine_costs(costs, machine_costs_file(model));
}

}  // namespace

MachineCosts machine_costs(LoadedModel& model, const Tool& tool, const std::shared_ptr<const Profile>& profile,
                           const eval::Patience<>& patience) {
  MachineCosts costs = costs_of_machine(model, tool, patience);
  RestoreRounds rounds(tool, patience);
  measure_profile_costs(costs, model, profile, rounds);
  return costs;
}

std::string note_on_costs(bool disturbed) {
  if (!disturbed) return "";
  return "predictions: others kept the machine busy when costs were measured; krul calibrate --machine does it again\n";
}

void calibrate_machine(const ModelOptions& which, const StoreOptions& store, const PatienceOption& patience,
                       const Tool& tool) {
  auto model = which.load(tool);
  const auto folder = store.path.empty() ? cache_folder() / "conversations" : std::filesystem::path(store.path);
  const auto costs = measure_machine_costs(model, folder, tool, patience.begin());
  const auto file = machine_costs_file(model);
  save_machine_costs(costs, file);
  if (tool.json) {
    Json json = to_json(costs);
    json["file"] = file.string();
    json["run"] = costs.rounds.run(model);
    tool.print(json);
    return;
  }
  const auto& layer = costs.layer;
  std::printf(
      "one layer: %.1f us a call, %.2f + %.2f us a row (before + after attention), %.2f ns a row and key, %.2f us a "
      "key\n",
      layer.call_s * 1e6, layer.project_row_s * 1e6, layer.finish_row_s * 1e6, layer.attend_pair_s * 1e9,
      layer.attend_key_s * 1e6);
  std::printf("embedding and logits: %.2f ms\n", costs.pass_s * 1e3);
  for (const auto& [codec, row_s] : costs.decode_row_s)
    std::printf("decoding %-5s: %.3f us a row and layer\n", codec.c_str(), row_s * 1e6);
  std::printf("disk: %.0f MB/s, %.0f us a request; memory: %.0f MB/s\n", costs.disk.bytes_per_s / 1e6,
              costs.disk.latency_s * 1e6, costs.memory.bytes_per_s / 1e6);
  std::printf("opening: %.2f ms and %.1f ns a byte of the manifest\n", costs.open_s * 1e3, costs.open_s_per_byte * 1e9);
  double worst = 0;
  for (const auto& restore : costs.explained)
    worst = std::max(worst, std::abs(restore.explained_s / restore.measured_s - 1));
  std::printf("explains the %zu kinds of restores that were measured within %.0f %%; took %.1f s\n",
              costs.explained.size(), worst * 100, costs.measured_s);
  std::printf("%skept in %s\n", costs.rounds.text().c_str(), file.c_str());
}

}  // namespace krul::cli
