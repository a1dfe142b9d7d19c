#include "simulate.hpp"

#include <cstdio>
#include <memory>
#include <optional>

#include "json_table.hpp"
#include "krul/eval/simulated_scene.hpp"
#include "krul/simulate/named.hpp"
#include "machine_costs.hpp"
#include "number_option.hpp"
#include "verbs.hpp"
#include "without_effect.hpp"

namespace krul::cli {
namespace {

using namespace krul::simulate;

/// What --link says; none if it says nothing, or "fitted".
std::optional<LinkName> link_of(const SimulateOptions& options) {
  if (options.link.empty() || options.link == "fitted") return std::nullopt;
  return unwrap(parse_link(options.link));
}

double fitted_rate(const Hardware& hardware, double ratio) {
  return unwrap(fitted_link_rate(hardware, ratio > 0 ? ratio : recompute_over_load));
}

/// Costs that were measured on this kind of machine.
Simulated measured_scene(const SimulateOptions& options) {
  constexpr double usual_room = 16e9;  // bytes; costs do not tell how much memory the machine has
  const MachineCosts measured = read_machine_costs(options.costs);
  const auto link = options.link.empty() ? LinkName{"disk"} : unwrap(parse_link(options.link));
  const ModelShape shape = unwrap(shape_named(options.geometry));
  const Scene scene = unwrap(eval::measured_scene(measured, {shape, options.tokens, options.prompt}, link));
  const double room = options.device_gb > 0 ? options.device_gb * 1e9 : usual_room;
  return {scene, options.costs, room / static_cast<double>(shape.token_bytes())};
}

Simulated counted_scene(const SimulateOptions& options) {
  Hardware hardware = unwrap(hardware_named(options.hardware));
  if (options.link == "fitted") hardware.link.bytes_per_s = fitted_rate(hardware, options.ratio);
  const auto link = link_of(options);
  if (link && (link->kind == LinkName::Kind::disk || link->kind == LinkName::Kind::memory))
    throw Failure(
        {ErrorCode::invalid_argument,
         "--link here is a rate such as 9GB/s, a ratio such as 1.3x, or fitted; disk and memory need --costs, and pcie "
         "is part of --hardware, such as a100-pcie4"});
  const ModelShape shape = unwrap(shape_named(options.geometry));
  const Scene scene = unwrap(eval::counted_scene(hardware, {shape, options.tokens, options.prompt}, link));
  const double room = options.device_gb > 0 ? options.device_gb * 1e9 : free_bytes(hardware.accelerator, shape);
  return {scene, options.hardware, room / static_cast<double>(shape.token_bytes())};
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
  for (const SimulatedStrategy& strategy : unwrap(strategies_named(options.strategies)))
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
  Hardware hardware = unwrap(hardware_named(options.hardware));
  Json rows = Json::array();
  std::string text;
  for (const auto& [name, rate] :
       {std::pair{"fitted", fitted_rate(hardware, options.ratio)}, std::pair{"nominal", hardware.link.bytes_per_s}}) {
    hardware.link.bytes_per_s = rate;
    Json lines = Json::array();
    for (const auto& [adjacent, distant, by_pairs] : paper_comparisons(hardware, options.prompt)) {
      for (const auto& [pairs, figure] : {std::pair{"adjacent", adjacent}, std::pair{"distant", distant}})
        rows.push_back({{"link", name},
                        {"link_bytes_per_s", rate},
                        {"pairs", pairs},
                        {"quantity", figure.quantity},
                        {"paper", figure.paper},
                        {"simulated", figure.simulated},
                        {"relative_error", figure.relative_error()}});
      lines.push_back(rows[rows.size() - 2]);
      if (by_pairs) lines.back().update({{"distant", distant.simulated}, {"distant_error", distant.relative_error()}});
    }
    text += std::string(name) + " link, " + eval::cell(rate / 1e9, 2) + " GB/s\n\n" +
            table_text(lines, {JsonColumn::text("quantity", "quantity"),
                               {{"paper"}, "paper", "", 2},
                               {{"simulated"}, "simulated", "adjacent", 2},
                               {{"relative_error"}, "error", "%", 0, 100},
                               {{"distant"}, "simulated", "distant", 2},
                               {{"distant_error"}, "error", "%", 0, 100}}) +
            "\n";
  }
  if (tool.json) return tool.print({{"hardware", options.hardware}, {"prompt", options.prompt}, {"results", rows}});
  std::printf("%s", text.c_str());
}

void refuse_what_changes_nothing(const CLI::App& verb, const SimulateOptions& options) {
  const auto link = link_of(options);
  const bool is_relative = link && link->kind == LinkName::Kind::relative;
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
  const Simulated simulated = options.costs.empty() ? counted_scene(options) : measured_scene(options);
  if (options.map) return simulate_map(options, simulated, tool);
  if (!options.traces.empty()) return simulate_trace(options, simulated, tool);
  simulate_once(options, simulated, tool);
}

}  // namespace

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
  add_numbers(*verb, "--load", options->loads, {0, 1e6, Low::excluded},
              "shares of the conversations, separated by commas; above 1: all, so many times as fast");
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
