#include "simulate.hpp"

#include <cstdio>
#include <memory>
#include <sstream>

#include "escaped.hpp"
#include "krul/compress/float_codec.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/compress/slerp_merge.hpp"
#include "krul/eval/result_table.hpp"
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

/// Costs that were measured on this kind of machine. Joint coding is not among them: its basis is counted at the speed
/// of the projections, its symbols at 4e8 a second.
Simulated measured_scene(const SimulateOptions& options) {
  const MachineCosts measured = read_machine_costs(options.costs);
  const auto link = fixed_link(options.link.empty() ? "disk" : options.link);
  Simulated found;
  found.base.shape = shape_named(options.geometry);
  const std::size_t layers = found.base.shape.layers;
  found.base.costs = measured.of(strategy::load(F16Codec{}), layers, link);
  found.hardware = options.costs;
  const ModelShape& shape = found.base.shape;
  Accelerator cores;
  cores.peak_flops = 2 * shape.projection_weights() / found.base.costs.layer.project_row_s;
  cores.matrix_share = 1;
  cores.memory_bytes_per_s = measured.memory.bytes_per_s;
  cores.symbols_per_s = 4e8;
  const auto joint = [&](const RowCoding& coding) {
    return CodedRows{coding.strength, decode_row_s(coding, shape, cores)};
  };
  found.base.int8 = {int8_coding.strength, measured.of(strategy::load(Int8Codec{}), layers, link).layer.decode_row_s};
  found.base.strong = joint(strong_coding);
  found.base.strongest = joint(strongest_coding);
  if (const auto merged = measured.decoding.find(LayerPairCompressor(SlerpMerge{}, F16Codec{}).name());
      merged != measured.decoding.end())
    found.base.merge_row_s = std::max(merged->second - found.base.costs.layer.decode_row_s, 0.0);
  found.device_tokens =
      (options.device_gb > 0 ? options.device_gb : 16) * 1e9 / static_cast<double>(shape.token_bytes());
  return found;
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
  return {.base = device_scene(shape, hardware, options.tokens, options.prompt),
          .hardware = options.hardware,
          .device_tokens = std::max(room, 0.0) / static_cast<double>(shape.token_bytes())};
}

Json to_json(const SimulatedStrategy& strategy, const simulate::Outcome& outcome, const Scene& scene) {
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
  const Scene scene = simulated.scene(options.tokens, options.prompt);
  Json rows = Json::array();
  eval::ResultTable table({{"strategy", "", eval::ResultTable::Align::left},
                           {"first token", "ms"},
                           {"link", "ms"},
                           {"compute", "ms"},
                           {"bubble", "ms"},
                           {"recomputed", "%"},
                           {"stored", "MB"},
                           {"of full", "%"}});
  for (const SimulatedStrategy& strategy : chosen_strategies(options.strategies)) {
    rows.push_back(to_json(strategy, strategy.simulate(scene), scene));
    const Json& row = rows.back();
    table.add({std::string(strategy.name), eval::cell(row["ttft_ms"], 2), eval::cell(row["link_ms"], 2),
               eval::cell(row["cores_ms"], 2), eval::cell(row["bubble_ms"], 2),
               eval::cell(row["recomputed_share"].get<double>() * 100),
               eval::cell(row["stored_bytes"].get<double>() / 1e6),
               eval::cell(row["stored_share"].get<double>() * 100)});
  }
  if (tool.json) {
    tool.print({{"hardware", simulated.hardware},
                {"geometry", scene.shape.name},
                {"tokens", scene.history},
                {"prompt", scene.prompt},
                {"link_bytes_per_s", scene.costs.link.bytes_per_s},
                {"results", rows}});
    return;
  }
  std::printf("simulated: %s on %s, link %.2f GB/s, %zu tokens of history, %zu of prompt\n\n%s",
              std::string(scene.shape.name).c_str(), escaped(simulated.hardware).c_str(),
              scene.costs.link.bytes_per_s / 1e9, scene.history, scene.prompt, table.text().c_str());
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
    eval::ResultTable table({{"quantity", "", eval::ResultTable::Align::left},
                             {"paper"},
                             {"simulated", "adjacent"},
                             {"error", "%"},
                             {"simulated", "distant"},
                             {"error", "%"}});
    const auto study = ratio_study(scene_of(*model_shape("llama-7b"), 2000));
    auto adjacent = paper_figures(scene_of, "krul-paper"), distant = paper_figures(scene_of, "krul-paper-distant");
    adjacent.insert(adjacent.begin(), study.begin(), study.end());
    distant.insert(distant.begin(), study.begin(), study.end());
    for (std::size_t i = 0; i < adjacent.size(); ++i) {
      const PaperFigure &a = adjacent[i], &d = distant[i];
      const bool same = i < study.size();
      table.add({std::string(a.quantity), eval::cell(a.paper, 2), eval::cell(a.simulated, 2),
                 eval::cell(a.relative_error() * 100, 0), same ? "" : eval::cell(d.simulated, 2),
                 same ? "" : eval::cell(d.relative_error() * 100, 0)});
      for (const auto& [pairs, figure] : {std::pair{"adjacent", a}, std::pair{"distant", d}})
        rows.push_back({{"link", name},
                        {"link_bytes_per_s", rate},
                        {"pairs", pairs},
                        {"quantity", figure.quantity},
                        {"paper", figure.paper},
                        {"simulated", figure.simulated},
                        {"relative_error", figure.relative_error()}});
    }
    if (!tool.json) std::printf("%s link, %.2f GB/s\n\n%s\n", name.c_str(), rate / 1e9, table.text().c_str());
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
      simulated.base.costs.link.bytes_per_s = fitted_rate(simulated.scene(options.tokens, options.prompt), factor);
  if (options.map) return simulate_map(options, simulated, tool);
  if (!options.traces.empty()) return simulate_trace(options, simulated, tool);
  simulate_once(options, simulated, tool);
}

}  // namespace

Scene Simulated::scene(std::size_t history, std::size_t prompt) const {
  Scene scene = base;
  scene.history = history;
  scene.prompt = prompt;
  // At most a hundred blocks: plans of long histories need no finer steps.
  scene.block = 64 * std::max<std::size_t>(1, (history + 6399) / 6400);
  return scene;
}

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
  verb->add_option("--tokens", options->tokens, "history")
      ->check(between<std::size_t>(0, 1'000'000))
      ->capture_default_str();
  verb->add_option("--prompt", options->prompt, "new tokens")
      ->check(between<std::size_t>(1, 1'000'000))
      ->capture_default_str();
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
  verb->add_option("--host-memory", options->host_gb, "GB for saved conversations")
      ->check(between(0.0, 1e9))
      ->capture_default_str();
  verb->add_option("--device-memory", options->device_gb, "GB for K and V; 0: 90 % of the device, less the weights")
      ->check(between(0.0, 1e9))
      ->capture_default_str();
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
