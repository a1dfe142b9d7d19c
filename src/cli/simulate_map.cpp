#include <cstdio>

#include "csv.hpp"
#include "json_table.hpp"
#include "krul/simulate/payoff.hpp"
#include "output_file.hpp"
#include "simulate.hpp"

namespace krul::cli {
namespace {

using namespace krul::simulate;

std::string rate_title(double rate) {
  char text[32];
  std::snprintf(text, sizeof text, rate < 1e9 ? "%.0fM" : "%.3gG", rate < 1e9 ? rate / 1e6 : rate / 1e9);
  return text;
}

Json map_row(const MapCell& cell, std::string_view coding) {
  Json times;
  for (std::size_t i = 0; i < mechanisms.size(); ++i)
    times[std::string(mechanisms[i].name)] = cell.first_token_s[i] * 1e3;
  return {{"coding", coding},
          {"compute_speed", cell.at.compute_speed},
          {"link_bytes_per_s", cell.at.link_bytes_per_s},
          {"recompute_over_load", cell.recompute_over_load},
          {"winner", mechanisms[cell.winner()].name},
          {"gain", cell.gain()},
          {"ttft_ms", times}};
}

/// The same as a line of the file, with no more digits than mean something.
Json csv_row(const Json& row, const Scene& scene) {
  Json line = {{"geometry", scene.shape.name}, {"tokens", scene.history}, {"prompt", scene.prompt}};
  line.update(row);
  for (const auto& [key, digits] :
       {std::pair{"compute_speed", 3}, {"link_bytes_per_s", 0}, {"recompute_over_load", 4}, {"gain", 4}})
    line[key] = eval::cell(row[key], digits);
  line.erase("ttft_ms");
  for (const auto& [name, time] : row["ttft_ms"].items()) line[name + "_ms"] = eval::cell(time, 4);
  return line;
}

}  // namespace

void simulate_map(const SimulateOptions& options, const Simulated& simulated, const Tool& tool) {
  const Scene& scene = simulated.scene;
  std::vector<JsonColumn> columns = {{{"speed"}, "compute", "times", 3}};
  for (const double rate : mapped_rates) columns.push_back({{rate_title(rate)}, rate_title(rate)});
  Json rows = Json::array(), file = Json::array();
  std::string text;
  for (const MappedCoding& coding : mapped_codings(scene)) {
    tool.progress("mapping " + std::string(coding.name));
    Json lines = Json::array();
    for (const double speed : mapped_speeds) {
      lines.push_back({{"speed", speed}});
      for (const double rate : mapped_rates) {
        const MapCell cell = map_cell(scene, {speed, rate, coding.rows});
        lines.back()[rate_title(rate)] = mechanisms[cell.winner()].letter + eval::cell(cell.gain(), 2);
        rows.push_back(map_row(cell, coding.name));
        file.push_back(csv_row(rows.back(), scene));
      }
    }
    text += "\nrows stored as " + std::string(coding.name) + "; columns: the link, bytes a second\n\n" +
            table_text(lines, columns);
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
  if (!options.csv.empty()) write_file(options.csv, csv_text(file));
}

}  // namespace krul::cli
