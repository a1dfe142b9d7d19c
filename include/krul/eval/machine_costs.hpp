#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/eval/statistics.hpp"
#include "krul/restore/restore_report.hpp"
#include "krul/strategy/any_strategy.hpp"
#include "krul/strategy/coding_costs.hpp"

namespace krul::eval {

/// What restores cost on one machine, with one model and one store.
struct MachineCosts {
  Costs costs = {};                            ///< but for decoding
  DecodingTimes decoding = {};                 ///< of the codings that were measured
  std::vector<double> prediction_errors = {};  ///< |predicted / measured - 1| of the last restores, at most 8

  /// The costs of a strategy's restores.
  /// @param layers  L of the model
  [[nodiscard]] Costs of(const AnyStrategy& strategy, std::size_t layers) const {
    Costs found = costs;
    found.layer = with_decoding(costs.layer, decoding, strategy.needs(), layers);
    return found;
  }

  /// Learns how well a restore was predicted.
  void saw(const RestoreReport& report) {
    if (report.predicted.total_s() <= 0 || report.total_s() <= 0) return;
    constexpr std::size_t remembered = 8;
    prediction_errors.push_back(std::abs(report.predicted.total_s() / report.total_s() - 1));
    if (prediction_errors.size() > remembered) prediction_errors.erase(prediction_errors.begin());
  }
  /// Whether the last restores were predicted within a quarter, in the median; true for fewer than four.
  [[nodiscard]] bool fit() const {
    constexpr std::size_t enough = 4;
    return prediction_errors.size() < enough || median(prediction_errors) <= 0.25;
  }
};

namespace detail {

constexpr std::string_view machine_costs_title = "krul costs 1";

/// The numbers of costs, each with its name.
template <class Use>
void for_each_cost(auto& costs, Use&& use) {
  use("link.latency_s", costs.link.latency_s);
  use("link.bytes_per_s", costs.link.bytes_per_s);
  use("link.core_s_per_byte", costs.link.core_s_per_byte);
  use("layer.call_s", costs.layer.call_s);
  use("layer.project_row_s", costs.layer.project_row_s);
  use("layer.finish_row_s", costs.layer.finish_row_s);
  use("layer.attend_pair_s", costs.layer.attend_pair_s);
  use("layer.attend_key_s", costs.layer.attend_key_s);
  use("pass_s", costs.pass_s);
  use("open_s", costs.open_s);
  use("open_s_per_byte", costs.open_s_per_byte);
}

}  // namespace detail

/// As text: a title, then a number and its name a line.
[[nodiscard]] inline std::string to_text(const MachineCosts& machine) {
  std::ostringstream text;
  text.precision(17);
  text << detail::machine_costs_title << '\n';
  detail::for_each_cost(machine.costs, [&](const char* name, double value) { text << value << ' ' << name << '\n'; });
  for (const auto& [coding, value] : machine.decoding) text << value << " decoding " << coding << '\n';
  for (const double error : machine.prediction_errors) text << error << " prediction_error\n";
  return text.str();
}

/// What to_text wrote.
/// @return corrupt if it is anything else, or a number is not one that costs can have
[[nodiscard]] inline Result<MachineCosts> machine_costs_from(const std::string& text) {
  const auto damaged = [] {
    return fail(ErrorCode::corrupt, "these are no costs that this version of krul wrote: measure them again");
  };
  std::istringstream lines(text);
  std::string line;
  if (!std::getline(lines, line) || line != detail::machine_costs_title) return damaged();
  std::map<std::string, double> numbers;
  MachineCosts machine;
  while (std::getline(lines, line)) {
    const std::size_t space = line.find(' ');
    if (space == std::string::npos || space == 0) return damaged();
    char* end = nullptr;
    const double value = std::strtod(line.c_str(), &end);
    if (end != line.c_str() + space || !std::isfinite(value) || value < 0) return damaged();
    const std::string name = line.substr(space + 1);
    constexpr std::string_view decoding = "decoding ";
    if (name.starts_with(decoding)) {
      machine.decoding[name.substr(decoding.size())] = value;
    } else if (name == "prediction_error") {
      machine.prediction_errors.push_back(value);
    } else {
      numbers[name] = value;
    }
  }
  bool complete = machine.prediction_errors.size() <= 8;
  detail::for_each_cost(machine.costs, [&](const char* name, double& value) {
    const auto found = numbers.find(name);
    complete = complete && found != numbers.end();
    if (found != numbers.end()) value = found->second;
  });
  if (!complete || machine.costs.link.bytes_per_s <= 0) return damaged();
  return machine;
}

}  // namespace krul::eval
