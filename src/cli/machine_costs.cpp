#include "machine_costs.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>

#include "affordable_history.hpp"
#include "escaped.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/core/checksum.hpp"
#include "krul/eval/measure_costs.hpp"
#include "krul/restore/predict.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/strategy/catalogue.hpp"
#include "page_cache.hpp"
#include "run_rounds.hpp"
#include "temporary_folder.hpp"

namespace krul::cli {
namespace {

/// Of the file with the costs; another one is measured again.
constexpr int costs_version = 4;

using Restores = std::vector<std::vector<eval::TimedRestore>>;

/// Whether each restore is run once in any case, or none more is begun once patience has run out.
enum class Measuring : std::uint8_t { at_least_once, in_time };

/// Patience ran out before all was measured.
struct OutOfTime {};

/// Runs restores in rounds, so that a slow minute of the machine meets all alike; rounds in which others were at work
/// are repeated while patience lasts.
class RestoreRounds {
 public:
  RestoreRounds(const Tool& tool, const eval::Patience<>& patience, Measuring measuring = Measuring::at_least_once)
      : tool_(tool), patience_(patience), measuring_(measuring) {}

  /// Throws OutOfTime if nothing more is to be begun.
  void expect_time() const {
    if (measuring_ == Measuring::in_time && patience_.share_s() <= 0) throw OutOfTime{};
  }

  /// @param what    is measured, for people
  /// @param shares  of what is left of patience: this measurement may take one of them
  /// @return        [alternatives, restores of the rounds that count]
  [[nodiscard]] Restores run(const std::string& what,
                             std::span<const eval::Alternative<eval::TimedRestore>> alternatives, std::size_t shares) {
    std::vector<eval::Alternative<eval::TimedRestore>> timely;
    for (const auto& alternative : alternatives)
      timely.push_back({alternative.name, [&] {
                          expect_time();
                          return alternative.measure();
                        }});
    auto report = run_rounds<eval::TimedRestore>(tool_, "measuring " + what, timely,
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
  Measuring measuring_;
  RoundsNote note_;
};

template <ConversationStore S>
eval::Alternative<eval::TimedRestore> restore_from(eval::CostMeter<CpuModel>& meter, S& store,
                                                   const eval::RestoreShape& shape) {
  return {"", [&meter, &store, shape] { return unwrap(meter.restore(store, shape)); }};
}

/// Seconds a stored row of one layer takes to become a row of the cache again, with all workers at it.
/// @param shares  as RestoreRounds::run
double measure_decode_row_s(RestoreRounds& rounds, eval::CostMeter<CpuModel>& meter, const NamedCoding& coding,
                            std::size_t threads, std::size_t shares) {
  MemoryStore store;
  const eval::RestoreShape shape{std::max<std::size_t>(meter.longest() / 4, 1), 0, 1};
  rounds.expect_time();
  unwrap(meter.save(store, shape.history, coding.plan, threads));
  std::vector<double> row_s;
  const eval::Alternative<eval::TimedRestore> alternative{
      "", [&] { return unwrap(meter.restore(store, shape, CodingSet(coding.plan.profile))); }};
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

Costs MachineCosts::costs(const LinkName& link, const AnyStrategy& strategy, const Geometry& geometry) const {
  Costs result{.link = {},
               .layer = with_decoding(layer, decode_row_s, strategy.needs(), geometry.layers),
               .pass_s = pass_s,
               .open_s = open_s,
               .open_s_per_byte = open_s_per_byte};
  expects(link.kind != LinkName::Kind::relative, "MachineCosts: the relative link must be resolved first");
  if (link.kind == LinkName::Kind::rate) {
    // The link's bucket fills up while a request waits, so that requests one after another lose no time.
    result.link = {0, link.bytes_per_s, memory.core_s_per_byte};
  } else {
    result.link = link.kind == LinkName::Kind::disk ? disk : memory;
  }
  return result;
}

LinkName MachineCosts::resolved(const LinkName& link, const Geometry& geometry, std::size_t history,
                                std::size_t prompt) const {
  if (link.kind != LinkName::Kind::relative) return link;
  RestoreSizes sizes = sizes_if_stored(history, 64, geometry.layers, {}, {});
  sizes.prompt = prompt;
  const Costs any{.link = {}, .layer = layer, .pass_s = pass_s};
  const double recompute_s =
      Predictor(sizes, any)(std::vector<std::size_t>(geometry.layers, history)).busy[Resource::cores];
  const double rate = static_cast<double>(history * geometry.f16_token_bytes()) * link.factor / recompute_s;
  return {link.text + " (" + human_bytes(rate) + "/s)", LinkName::Kind::rate, rate, link.factor};
}

std::filesystem::path machine_costs_file(const LoadedModel& model) {
  const Identity& identity = model.backend.identity();
  const std::string what =
      identity.weights + identity.geometry + identity.kernels + identity.processor + identity.threads;
  return cache_folder() / "costs" / (hexadecimal(checksum(std::as_bytes(std::span(what)))) + ".json");
}

namespace {

/// All but how rows are decoded.
/// @param prompt  tokens of a usual one
/// @param place   the disk is measured in a folder below it
MachineCosts measure_restores(LoadedModel& model, eval::CostMeter<CpuModel>& meter, std::size_t prompt,
                              RestoreRounds& rounds, const std::filesystem::path& place) {
  MachineCosts costs;
  const std::size_t threads = model.backend.workers().threads();
  const auto shapes = eval::calibration_shapes(meter.longest(), prompt);
  const SavePlan plain = SavePlan::separate(Int8Codec{});
  const auto save_all = [&](auto& store) {
    std::size_t saved = 0;
    for (const auto& shape : shapes)
      if (shape.history != std::exchange(saved, shape.history)) {
        rounds.expect_time();
        unwrap(meter.save(store, shape.history, plain, threads));
      }
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

  const auto folder = unwrap(TemporaryFolder::make(place));
  auto disk = unwrap(FileStore::open(folder.path()));
  save_all(disk);
  alternatives.clear();
  for (const auto& shape : shapes) {
    if (shape.front > 0.2 || shape.prompt != prompt) continue;
    alternatives.push_back({"", [&meter, &disk, &folder, shape] {
                              drop_from_page_cache(folder.path());
                              return unwrap(meter.restore(disk, shape));
                            }});
    alternatives.push_back(restore_from(meter, memory, shape));
  }
  Restores from_disk, from_memory;
  for (auto& repeated : rounds.run("restores from disk", alternatives, 2))
    (from_disk.size() == from_memory.size() ? from_disk : from_memory).push_back(std::move(repeated));
  costs.disk = eval::fit_link(from_disk);
  costs.disk.core_s_per_byte = costs.memory.core_s_per_byte + eval::extra_core_s_per_byte(from_disk, from_memory);
  return costs;
}

/// What strategies decode, each coding once.
std::vector<NamedCoding> codings_of(std::span<const AnyStrategy> strategies, const Geometry& geometry) {
  std::map<std::string, SavePlan> all;
  for (const AnyStrategy& strategy : strategies)
    for (NamedCoding& coding : codings_to_measure(strategy.needs(), geometry.layers))
      all.emplace(std::move(coding.name), std::move(coding.plan));
  std::vector<NamedCoding> codings;
  for (auto& [name, plan] : all) codings.push_back({name, std::move(plan)});
  return codings;
}

/// All of the catalogue's.
std::vector<NamedCoding> all_codings(const std::shared_ptr<const Profile>& profile, const Geometry& geometry) {
  std::vector<AnyStrategy> strategies;
  for (const auto& listed : strategy::catalogue(profile)) strategies.push_back(listed.strategy);
  return codings_of(strategies, geometry);
}

/// Those of the codings that are not among the costs yet.
std::vector<NamedCoding> missing_from(const MachineCosts& costs, std::vector<NamedCoding> codings) {
  std::erase_if(codings, [&](const NamedCoding& coding) { return costs.decode_row_s.contains(coding.name); });
  return codings;
}

void measure_codings(MachineCosts& costs, std::span<const NamedCoding> codings, RestoreRounds& rounds,
                     eval::CostMeter<CpuModel>& meter, std::size_t threads) {
  for (std::size_t i = 0; i < codings.size(); ++i)
    costs.decode_row_s[codings[i].name] = measure_decode_row_s(rounds, meter, codings[i], threads, codings.size() - i);
}

/// Tokens of the history that codings alone are measured with.
constexpr std::size_t coding_history = 1024;

}  // namespace

MachineCosts measure_machine_costs(LoadedModel& model, const std::filesystem::path& place, const Tool& tool,
                                   const eval::Patience<>& patience) {
  const SteadyClock clock;
  const TimePoint start = clock.now();
  const Geometry& geometry = model.backend.geometry();
  const auto history = MeasuredHistory::for_context(geometry.context);
  if (history.longest == 0)
    throw Failure({ErrorCode::unsupported, "a context of " + std::to_string(geometry.context) +
                                               " tokens is too short to measure restores with: 64 are needed"});
  RestoreRounds rounds(tool, patience);
  eval::CostMeter<CpuModel> meter(model.backend, history.longest);
  MachineCosts costs = measure_restores(model, meter, history.prompt, rounds, place);
  measure_codings(costs, all_codings(nullptr, geometry), rounds, meter, model.backend.workers().threads());
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
  static_cast<void>(make_private_folders(file.parent_path()));
  std::error_code error;
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

/// None if there are none, or they are damaged or of an older version.
std::optional<MachineCosts> kept_costs(const LoadedModel& model) {
  const auto text = read_text(machine_costs_file(model));
  const auto json = Json::parse(text.value_or(""), nullptr, false);
  try {
    if (!json.is_discarded()) return costs_from(json);
  } catch (const nlohmann::json::exception&) {
    // Measured again.
  }
  return std::nullopt;
}

/// Keeps them for later starts, or says why that is not possible.
void keep_costs(const MachineCosts& costs, const LoadedModel& model, const Tool& tool) {
  try {
    save_machine_costs(costs, machine_costs_file(model));
  } catch (const Failure& failure) {
    tool.say(std::string("(what was measured is not kept: ") + failure.what() + ")");
  }
}

/// Seconds that the model takes for each of a few tokens, of fewer where it is slow.
double row_s_of(CpuModel& model) {
  constexpr double long_enough_s = 0.5;
  constexpr std::size_t few = 16;
  auto batch = model.make_batch();
  for (std::size_t count = 1;; count *= 4) {
    auto cache = model.make_cache(count);
    const std::vector<Token> tokens(count);
    const double taken_s =
        eval::seconds_taken(SteadyClock{}, [&] { prefill(model, cache, batch, std::span<const Token>(tokens), {}); });
    if (taken_s > long_enough_s || count == few) return taken_s / static_cast<double>(count);
  }
}

/// Adds to the costs, which may be none, what is wanted and missing.
/// Throws OutOfTime if that is not possible in time; what was measured until then is among the costs.
void measure_quickly(std::optional<MachineCosts>& costs, LoadedModel& model, const WantedCosts& wanted,
                     const Tool& tool) {
  const SteadyClock clock;
  const TimePoint start = clock.now();
  const eval::Patience patience(first_start_s);
  RestoreRounds rounds(tool, patience, Measuring::in_time);
  const std::size_t context = model.backend.geometry().context;
  auto history = MeasuredHistory::for_context(context);
  if (history.longest > 0) history = MeasuredHistory::for_time(row_s_of(model.backend), patience.share_s(), context);
  if (history.longest == 0) throw OutOfTime{};
  eval::CostMeter<CpuModel> meter(model.backend, costs ? std::min(history.longest, coding_history) : history.longest);
  if (!costs) costs = measure_restores(model, meter, history.prompt, rounds, wanted.place);
  measure_codings(*costs, missing_from(*costs, codings_of(std::span(&wanted.strategy, 1), model.backend.geometry())),
                  rounds, meter, model.backend.workers().threads());
  costs->rounds.add(rounds.note());
  costs->measured_s += seconds(clock.now() - start);
}

}  // namespace

std::optional<MachineCosts> quick_machine_costs(LoadedModel& model, const WantedCosts& wanted, const Tool& tool) {
  auto costs = kept_costs(model);
  if (!costs || !missing_from(*costs, codings_of(std::span(&wanted.strategy, 1), model.backend.geometry())).empty()) {
    tool.say("(measuring this machine once, in " + std::to_string(static_cast<int>(first_start_s)) +
             " s at most; --costs none goes without, krul calibrate --machine takes its time)");
    try {
      measure_quickly(costs, model, wanted, tool);
    } catch (const OutOfTime&) {
      tool.say("(it cannot be measured so fast: what is missing is not planned for)");
    } catch (const Failure& failure) {
      tool.say(std::string("(it cannot be measured, so restores are not planned: ") + failure.what() + ")");
    }
    tool.progress("");
    if (costs) keep_costs(*costs, model, tool);
  }
  return costs;
}

MachineCosts machine_costs(LoadedModel& model, const Tool& tool, const std::shared_ptr<const Profile>& profile,
                           const eval::Patience<>& patience) {
  auto costs = kept_costs(model);
  if (!costs) {
    tool.say("measuring this machine once (krul calibrate --machine does it again)");
    costs = measure_machine_costs(model, cache_folder(), tool, patience);
    keep_costs(*costs, model, tool);
  }
  const auto codings = missing_from(*costs, all_codings(profile, model.backend.geometry()));
  if (codings.empty()) return *costs;
  RestoreRounds rounds(tool, patience);
  eval::CostMeter<CpuModel> meter(model.backend, coding_history);
  measure_codings(*costs, codings, rounds, meter, model.backend.workers().threads());
  costs->rounds.add(rounds.note());
  keep_costs(*costs, model, tool);
  return *costs;
}

std::string note_on_costs(bool disturbed) {
  if (!disturbed) return "";
  return "predictions: others kept the machine busy when costs were measured; krul calibrate --machine does it again\n";
}

void calibrate_machine(const ModelOptions& which, const StoreOptions& store, const PatienceOption& patience,
                       const Tool& tool) {
  auto model = which.load(tool);
  const auto costs = measure_machine_costs(model, store.folder(), tool, patience.begin());
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
  std::printf("%skept in %s\n", costs.rounds.text().c_str(), escaped(file.string()).c_str());
}

}  // namespace krul::cli
