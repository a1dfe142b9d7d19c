#include "simulate.hpp"

#include <cstdio>
#include <memory>
#include <sstream>

#include "json_table.hpp"
#include "krul/compress/float_codec.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/compress/slerp_merge.hpp"
#include "krul/simulate/paper_figures.hpp"
#include "krul/strategy/catalogue/load.hpp"
#include "machine_costs.hpp"
#include "number_option.hpp"
#include "verbs.hpp"
#include "without_effect.hpp"

namespace krul::cli {
namespace {

using namespace krul::simulate;

template <class Named>
std::string names_of(const Named& all) {
  std::string names;
  for (const auto& one : all) names += (names.empty() ? "" : ", ") + std::string(one.name);
  return names;
}

ModelShape shape_named(const std::string& name) {
  if (const ModelShape* shape = model_shape(name)) return *shape;
  throw Failure(
      {ErrorCode::invalid_argument, "unknown geometry \"" + name + "\"; there are: " + names_of(model_shapes())});
}

Hardware hardware_named(const std::string& name) {
  Hardware hardware;
  if (find_hardware(name, hardware)) return hardware;
  throw Failure({ErrorCode::invalid_argument, "unknown hardware \"" + name + "\"; join one of " +
                                                  names_of(accelerators()) + " and one of " + names_of(links()) +
                                                  " with a hyphen"});
}

/// A relative link is any rate at first: it can be resolved once the costs are known.
LinkName fixed_link(const std::string& text) {
  LinkName link = unwrap(parse_link(text));
  if (link.kind == LinkName::Kind::relative) link = {text, LinkName::Kind::rate, 1e9, link.factor};
  return link;
}

/// Costs that were measured on this kind of machine.
Simulated measured_scene(const SimulateOptions& options) {
  const MachineCosts measured = read_machine_costs(options.costs);
  const auto link = fixed_link(options.link.empty() ? "disk" : options.link);
  const ModelShape shape = shape_named(options.geometry);
  const auto costs_of = [&](const AnyStrategy& strategy) { return measured.of(strategy, shape.layers, link); };
  const auto merged = measured.decoding.find(LayerPairCompressor(SlerpMerge{}, F16Codec{}).name());
  const Scene scene =
      simulate::measured_scene(shape, {.costs = costs_of(strategy::load(F16Codec{})),
                                       .int8_row_s = costs_of(strategy::load(Int8Codec{})).layer.decode_row_s,
                                       .merged_row_s = merged == measured.decoding.end() ? 0 : merged->second,
                                       .memory_bytes_per_s = measured.memory.bytes_per_s});
  const double room = (options.device_gb > 0 ? options.device_gb : 16) * 1e9;
  return {at_length(scene, options.tokens, options.prompt), options.costs,
          room / static_cast<double>(shape.token_bytes())};
}

/// The link rate at which full recompute takes so many times as long as full load.
double fitted_rate(const Scene& scene, double ratio) {
  try {
    return fitted_link_rate(scene, ratio);
  } catch (const PreconditionError&) {
    throw Failure({ErrorCode::invalid_argument, "no link rate makes full recompute take " + eval::cell(ratio, 2) +
                                                    " times as long as full load; try a number near 1"});
  }
}

/// The same for the scene that the paper reports a ratio for.
double paper_rate(const Hardware& hardware, double ratio) {
  return fitted_rate(device_scene(*model_shape("llama-7b"), hardware, 2000, 128),
                     ratio > 0 ? ratio : recompute_over_load);
}

Simulated counted_scene(const SimulateOptions& options) {
  Hardware hardware = hardware_named(options.hardware);
  if (options.link == "fitted") {
    hardware.link.bytes_per_s = paper_rate(hardware, options.ratio);
  } else if (!options.link.empty()) {
    const auto link = fixed_link(options.link);
    if (link.kind != LinkName::Kind::rate)
      throw Failure(
          {ErrorCode::invalid_argument,
           "--link here is a rate such as 9GB/s, a ratio such as 1.3x, or fitted; disk and memory need --costs"});
    hardware.link.bytes_per_s = link.bytes_per_s;
  }
  const ModelShape shape = shape_named(options.geometry);
  const double room =
      options.device_gb > 0 ? options.device_gb * 1e9 : 0.9 * hardware.accelerator.memory_bytes - shape.model_bytes();
  return {at_length(device_scene(shape, hardware, options.tokens, options.prompt), options.tokens, options.prompt),
          options.hardware, std::max(room, 0.0) / static_cast<double>(shape.token_bytes())};
}

Json strategy_row(const SimulatedStrategy& strategy, const Scene& scene) {
  const Outcome outcome = strategy.simulate(scene);
  const Prediction& predicted = outcome.predicted;
  const double full = static_cast<double>(scene.history * scene.shape.token_bytes());
  return {{"strategy", strategy.name},
          {"ttft_ms", predicted.first_token_s * 1e3},
          {"bytes", predicted.bytes},
          {"stored_bytes", outcome.stored_bytes},
          {"stored_share", full > 0 ? outcome.stored_bytes / full : 0},
          {"recomputed_share", outcome.recomputed_share},
          {"link_ms", predicted.busy[Resource::link] * 1e3},
          {"cores_ms", predicted.busy[Resource::cores] * 1e3},
          {"bound_ms", predicted.bound_s() * 1e3},
          {"bubble_ms", predicted.bubble_s() * 1e3}};
}

void simulate_once(const SimulateOptions& options, const Simulated& simulated, const Tool& tool) {
  const Scene& scene = simulated.scene;
  Json rows = Json::array();
  for (const SimulatedStrategy& strategy : chosen_strategies(options.strategies))
    rows.push_back(strategy_row(strategy, scene));
  if (tool.json)
    return tool.print({{"hardware", simulated.hardware},
                       {"geometry", scene.shape.name},
                       {"tokens", scene.history},
                       {"prompt", scene.prompt},
                       {"link_bytes_per_s", scene.costs.link.bytes_per_s},
                       {"results", rows}});
  std::printf("simulated: %s on %s, link %.2f GB/s, %zu tokens of history, %zu of prompt\n\n%s",
              std::string(scene.shape.name).c_str(), escaped(simulated.hardware).c_str(),
              scene.costs.link.bytes_per_s / 1e9, scene.history, scene.prompt,
              table_text(rows, {JsonColumn::text("strategy", "strategy"),
                                {{"ttft_ms"}, "first token", "ms", 2},
                                {{"link_ms"}, "link", "ms", 2},
                                {{"cores_ms"}, "compute", "ms", 2},
                                {{"bubble_ms"}, "bubble", "ms", 2},
                                {{"recomputed_share"}, "recomputed", "%", 1, 100},
                                {{"stored_bytes"}, "stored", "MB", 1, 1e-6},
                                {{"stored_share"}, "of full", "%", 1, 100}})
                  .c_str());
}

/// The paper's numbers beside simulated ones, at the fitted and at the nominal link.
void simulate_fit(const SimulateOptions& options, const Tool& tool) {
  const Hardware nominal = hardware_named(options.hardware);
  Json rows = Json::array();
  const auto compare = [&](const std::string& name, double rate) {
    Hardware hardware = nominal;
    hardware.link.bytes_per_s = rate;
    const auto scene_of = [&](const ModelShape& shape, std::size_t history) {
      return device_scene(shape, hardware, history, options.prompt);
    };
    const auto study = ratio_study(scene_of(*model_shape("llama-7b"), 2000));
    auto adjacent = paper_figures(scene_of, "krul-paper"), distant = paper_figures(scene_of, "krul-paper-distant");
    adjacent.insert(adjacent.begin(), study.begin(), study.end());
    distant.insert(distant.begin(), study.begin(), study.end());
    Json lines = Json::array();
    for (std::size_t i = 0; i < adjacent.size(); ++i) {
      for (const auto& [pairs, figure] : {std::pair{"adjacent", adjacent[i]}, std::pair{"distant", distant[i]}})
        rows.push_back({{"link", name},
                        {"link_bytes_per_s", rate},
                        {"pairs", pairs},
                        {"quantity", figure.quantity},
                        {"paper", figure.paper},
                        {"simulated", figure.simulated},
                        {"relative_error", figure.relative_error()}});
      lines.push_back(rows[rows.size() - 2]);
      if (i < study.size()) continue;  // the same for all pairs
      lines.back()["distant"] = distant[i].simulated;
      lines.back()["distant_error"] = distant[i].relative_error();
    }
    if (tool.json) return;
    std::printf("%s link, %.2f GB/s\n\n%s\n", name.c_str(), rate / 1e9,
                table_text(lines, {JsonColumn::text("quantity", "quantity"),
                                   {{"paper"}, "paper", "", 2},
                                   {{"simulated"}, "simulated", "adjacent", 2},
                                   {{"relative_error"}, "error", "%", 0, 100},
                                   {{"distant"}, "simulated", "distant", 2},
                                   {{"distant_error"}, "error", "%", 0, 100}})
                    .c_str());
  };
  compare("fitted", paper_rate(nominal, options.ratio));
  compare("nominal", nominal.link.bytes_per_s);
  if (tool.json) tool.print({{"hardware", options.hardware}, {"prompt", options.prompt}, {"results", rows}});
}

void refuse_what_changes_nothing(const CLI::App& verb, const SimulateOptions& options) {
  const bool is_relative = !options.link.empty() && options.link != "fitted" && fixed_link(options.link).factor > 0;
  if (!options.fit && options.link != "fitted")
    refuse_without_effect(verb, "--ratio", "without --fit or --link fitted");
  if (options.map && options.costs.empty())
    refuse_without_effect(verb, "--link", "with --map, which has many links of its own");
  if (!options.traces.empty() && !is_relative)
    for (const auto* length : {"--tokens", "--prompt"})
      refuse_without_effect(verb, length, "with --trace, which has its own, but for a --link such as 1.3x");
}

void run(const SimulateOptions& options, const Tool& tool) {
  if (options.fit) return simulate_fit(options, tool);
  Simulated simulated = options.costs.empty() ? counted_scene(options) : measured_scene(options);
  if (!options.link.empty() && options.link != "fitted")
    if (const double factor = fixed_link(options.link).factor; factor > 0)
      simulated.scene.costs.link.bytes_per_s = fitted_rate(simulated.scene, factor);
  if (options.map) return simulate_map(options, simulated, tool);
  if (!options.traces.empty()) return simulate_trace(options, simulated, tool);
  simulate_once(options, simulated, tool);
}

}  // namespace

std::vector<SimulatedStrategy> chosen_strategies(const std::string& names) {
  if (names.empty()) return {simulated_strategies().begin(), simulated_strategies().end()};
  std::vector<SimulatedStrategy> found;
  std::stringstream list(names);
  for (std::string name; std::getline(list, name, ',');) {
    const SimulatedStrategy* strategy = simulated_strategy(name);
    if (!strategy)
      throw Failure({ErrorCode::invalid_argument,
                     "unknown strategy \"" + name + "\"; there are: " + names_of(simulated_strategies())});
    found.push_back(*strategy);
  }
  return found;
}

void add_simulate(CLI::App& program, Tool& tool) {
  auto options = std::make_shared<SimulateOptions>();
  auto* verb = program.add_subcommand("simulate", "predict restores on hardware that is not here");
  verb->add_option("--hardware", options->hardware, "accelerator-link, such as a100-pcie4 or h100-10gbit")
      ->capture_default_str();
  verb->add_option("--geometry", options->geometry, "the model's sizes, such as llama-7b")->capture_default_str();
  verb->add_option(
      "--link", options->link,
      "in place of the hardware's: a rate such as 9GB/s, 1.3x, or fitted; with --costs also disk or memory");
  verb->add_option("--costs", options->costs, "file of krul calibrate --machine, in place of --hardware")
      ->excludes("--hardware");
  add_number(*verb, "--tokens", options->tokens, {0, 1'000'000}, "history");
  add_number(*verb, "--prompt", options->prompt, {1, 1'000'000}, "new tokens");
  verb->add_option("--strategies", options->strategies, "some of them, separated by commas");
  auto* fit = verb->add_flag("--fit", options->fit, "the paper's numbers beside simulated ones");
  verb->add_option("--ratio", options->ratio, "fit this ratio of full recompute to full load, not the paper's 1.48")
      ->check(between(0.0, 1e9, Low::excluded));
  auto* trace = verb->add_option("--trace", options->traces,
                                 "replay arrivals: Mooncake .jsonl, Azure .csv, kv-cache-tester .json");
  verb->add_option("--load", options->loads,
                   "shares of the conversations, separated by commas; above 1: all, so many times as fast")
      ->delimiter(',')
      ->check(between(0.0, 1e6, Low::excluded))
      ->capture_default_str();
  add_number(*verb, "--host-memory", options->host_gb, {0, 1e9}, "GB for saved conversations");
  add_number(*verb, "--device-memory", options->device_gb, {0, 1e9},
             "GB for K and V; 0: 90 % of the device, less the weights");
  auto* map = verb->add_flag("--map", options->map, "which mechanism pays where");
  verb->add_option("--csv", options->csv, "with --map: write all cells to this file")->needs(map);
  for (const auto* option : {"--load", "--host-memory", "--device-memory"}) verb->get_option(option)->needs(trace);
  for (const auto* option : {"--geometry", "--link", "--costs", "--tokens", "--strategies", "--trace", "--map"})
    fit->excludes(option);
  map->excludes(trace)->excludes("--strategies");
  verb->callback([verb, options, &tool] {
    refuse_what_changes_nothing(*verb, *options);
    run(*options, tool);
  });
}

}  // namespace krul::cli
