#include <cstdio>

#include "escaped.hpp"
#include "krul/eval/result_table.hpp"
#include "krul/simulate/payoff.hpp"
#include "output_file.hpp"
#include "simulate.hpp"

namespace krul::cli {
namespace {

using namespace krul::simulate;

constexpr double speeds[] = {0.125, 0.25, 0.5, 1, 2, 4, 8};
constexpr double rates[] = {10e6, 50e6, 117e6, 300e6, 1.25e9, 3.1e9, 6.5e9, 12.5e9, 26e9, 55e9};

std::string rate_title(double rate) {
  char text[32];
  std::snprintf(text, sizeof text, rate < 1e9 ? "%.0fM" : "%.3gG", rate < 1e9 ? rate / 1e6 : rate / 1e9);
  return text;
}

}  // namespace

void simulate_map(const SimulateOptions& options, const Simulated& simulated, const Tool& tool) {
  const Scene scene = simulated.scene(options.tokens, options.prompt);
  const std::pair<const char*, CodedRows> codings[] = {{"f16", {1, scene.costs.layer.decode_row_s}},
                                                       {"int8", scene.int8},
                                                       {"joint-8x", scene.strong},
                                                       {"joint-12x", scene.strongest}};
  std::string csv = "geometry,tokens,prompt,coding,compute_speed,link_bytes_per_s,recompute_over_load,winner,gain";
  for (const Mechanism& mechanism : mechanisms) csv += "," + std::string(mechanism.name) + "_ms";
  csv += "\n";
  Json rows = Json::array();
  std::string text;
  for (const auto& [name, coding] : codings) {
    std::vector<eval::ResultTable::Column> columns = {{"compute", "times"}};
    for (const double rate : rates) columns.push_back({rate_title(rate)});
    eval::ResultTable table(columns);
    for (const double speed : speeds) {
      std::vector<std::string> cells = {eval::cell(speed, 3)};
      for (const double rate : rates) {
        tool.progress(std::string("mapping ") + name);
        const MapCell cell = map_cell(scene, {speed, rate, coding});
        const Mechanism& winner = mechanisms[cell.winner()];
        cells.push_back(winner.letter + eval::cell(cell.gain(), 2));
        Json times = Json::object();
        csv += std::string(scene.shape.name) + "," + std::to_string(scene.history) + "," +
               std::to_string(scene.prompt) + "," + name + "," + eval::cell(speed, 3) + "," + eval::cell(rate, 0) +
               "," + eval::cell(cell.recompute_over_load, 4) + "," + std::string(winner.name) + "," +
               eval::cell(cell.gain(), 4);
        for (std::size_t i = 0; i < mechanisms.size(); ++i) {
          times[std::string(mechanisms[i].name)] = cell.first_token_s[i] * 1e3;
          csv += "," + eval::cell(cell.first_token_s[i] * 1e3, 4);
        }
        csv += "\n";
        rows.push_back({{"coding", name},
                        {"compute_speed", speed},
                        {"link_bytes_per_s", rate},
                        {"recompute_over_load", cell.recompute_over_load},
                        {"winner", winner.name},
                        {"gain", cell.gain()},
                        {"ttft_ms", times}});
      }
      table.add(std::move(cells));
    }
    text += std::string("\nrows stored as ") + name + "; columns: the link, bytes a second\n\n" + table.text();
  }
  tool.progress("");
  if (tool.json) {
    tool.print({{"hardware", simulated.hardware},
                {"geometry", scene.shape.name},
                {"tokens", scene.history},
                {"prompt", scene.prompt},
                {"results", rows}});
  } else {
    std::printf("simulated: %s on %s, %zu tokens of history, %zu of prompt\n", std::string(scene.shape.name).c_str(),
                escaped(simulated.hardware).c_str(), scene.history, scene.prompt);
    std::printf("a cell: what wins, and how many times sooner than the better of R and L in the same coding\n");
    for (const Mechanism& mechanism : mechanisms)
      std::printf("%c %s  ", mechanism.letter, std::string(mechanism.name).c_str());
    std::printf("\n%s", text.c_str());
  }
  if (!options.csv.empty()) write_file(options.csv, csv);
}

}  // namespace krul::cli
