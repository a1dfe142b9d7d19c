#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <locale>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/eval/link_name.hpp"
#include "krul/eval/result_table.hpp"
#include "krul/eval/statistics.hpp"
#include "krul/restore/predict.hpp"
#include "krul/restore/restore_report.hpp"
#include "krul/strategy/any_strategy.hpp"
#include "krul/strategy/coding_costs.hpp"
#include "krul/strategy/paper_allocation.hpp"

namespace krul::eval {

/// A restore that costs were learnt from, and what they say of it.
struct ExplainedRestore {
  std::size_t history = 0, recomputed = 0, prompt = 0;  ///< tokens
  double measured_s = 0, explained_s = 0;
};

/// What restores cost on one machine, with one model and one store.
struct MachineCosts {
  Costs costs = {};                              ///< but for decoding; its link is the way to the store
  LinkCosts memory = {};                         ///< the way to a store in memory
  DecodingTimes decoding = {};                   ///< of the codings that were measured
  std::set<std::string> decoded_by_cores = {};   ///< where a device computes: those that they decode sooner
  double measured_s = 0;                         ///< how long all measurements took
  bool disturbed = false;                        ///< rounds in which others kept the machine busy count, somewhere
  bool cut_short = false;                        ///< there were fewer rounds than were asked for, somewhere
  std::vector<double> prediction_errors = {};    ///< |predicted / measured - 1| of the last restores, at most 8
  std::vector<ExplainedRestore> explained = {};  ///< not a part of its text

  /// The costs of a strategy's restores. Where a device computes, the cores decode if they are sooner for each of the
  /// strategy's codings, else the device.
  /// @param layers  L of the model
  [[nodiscard]] Costs of(const AnyStrategy& strategy, std::size_t layers) const {
    const Needs needs = strategy.needs();
    Costs found = costs;
    found.layer = with_decoding(costs.layer, decoding, needs, layers);
    const auto codings = codings_to_measure(needs, layers);
    const bool by_cores = costs.on.compute == Resource::cores ||
                          (!codings.empty() && std::ranges::all_of(codings, [&](const NamedCoding& coding) {
                            return decoded_by_cores.contains(coding.name);
                          }));
    found.on.decode = by_cores ? Resource::cores : Resource::device;
    return found;
  }

  /// The same over a link: "disk" is the store's own.
  /// @throws PreconditionError if the link is relative (see resolved), or leads to a device and none computes
  [[nodiscard]] Costs of(const AnyStrategy& strategy, std::size_t layers, const LinkName& link) const {
    expects(link.kind != LinkName::Kind::relative, "MachineCosts: the relative link must be resolved first");
    expects(!link.to_device || costs.on.compute == Resource::device, "MachineCosts: no device computes");
    Costs found = of(strategy, layers);
    if (link.kind == LinkName::Kind::memory) found.link = memory;
    // The link's bucket fills up while a request waits, so that requests one after another lose no time.
    if (link.kind == LinkName::Kind::rate) {
      // A restore waits for two round trips: the manifest, and the first rows.
      found.link = {
          .bytes_per_s = link.bytes_per_s, .core_s_per_byte = memory.core_s_per_byte, .open_s = 2 * link.latency_s};
    }
    return found;
  }

  /// A relative link as the rate that it means for a history and a prompt; other links as they are.
  [[nodiscard]] LinkName resolved(const LinkName& link, const Geometry& geometry, std::size_t history,
                                  std::size_t prompt) const {
    if (link.kind != LinkName::Kind::relative) return link;
    RestoreSizes sizes = sizes_if_stored(history, 64, geometry.layers, {}, {});
    sizes.prompt = prompt;
    const Costs any{.link = {}, .layer = costs.layer, .pass_s = costs.pass_s, .on = costs.on};
    const double recompute_s =
        Predictor(sizes, any)(std::vector<std::size_t>(geometry.layers, history)).busy[costs.on.compute];
    const double rate = static_cast<double>(history * geometry.f16_token_bytes()) * link.factor / recompute_s;
    return {.text = link.text + " (" + human_bytes(rate) + "/s)",
            .kind = LinkName::Kind::rate,
            .bytes_per_s = rate,
            .factor = link.factor};
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

constexpr std::string_view machine_costs_title = "krul costs 3";

/// The numbers of a machine's costs, each with its name.
template <class Use>
void for_each_cost(auto& machine, Use&& use) {
  auto& costs = machine.costs;
  use("link.latency_s", costs.link.latency_s);
  use("link.bytes_per_s", costs.link.bytes_per_s);
  use("link.open_s", costs.link.open_s);
  use("link.core_s_per_byte", costs.link.core_s_per_byte);
  use("layer.call_s", costs.layer.call_s);
  use("layer.project_row_s", costs.layer.project_row_s);
  use("layer.finish_row_s", costs.layer.finish_row_s);
  use("layer.attend_pair_s", costs.layer.attend_pair_s);
  use("layer.attend_key_s", costs.layer.attend_key_s);
  use("pass_s", costs.pass_s);
  use("open_s", costs.open_s);
  use("open_s_per_byte", costs.open_s_per_byte);
  use("memory.latency_s", machine.memory.latency_s);
  use("memory.bytes_per_s", machine.memory.bytes_per_s);
  use("memory.core_s_per_byte", machine.memory.core_s_per_byte);
  use("measured_s", machine.measured_s);
}

/// Those that there are only where a device computes.
template <class Use>
void for_each_copy_cost(auto& copy, Use&& use) {
  use("copy.latency_s", copy.latency_s);
  use("copy.bytes_per_s", copy.bytes_per_s);
  use("copy.row_bytes", copy.row_bytes);
}

}  // namespace detail

/// As text: a title, then a number and its name a line.
[[nodiscard]] inline std::string to_text(const MachineCosts& machine) {
  std::ostringstream text;
  text.imbue(std::locale::classic());
  text.precision(17);
  text << detail::machine_costs_title << '\n';
  const auto line = [&](const char* name, double value) { text << value << ' ' << name << '\n'; };
  detail::for_each_cost(machine, line);
  if (machine.costs.on.compute == Resource::device) {
    detail::for_each_copy_cost(machine.costs.copy,
                               [&](const char* name, auto value) { line(name, static_cast<double>(value)); });
    for (const std::string& coding : machine.decoded_by_cores) text << "1 decoded_by_cores " << coding << '\n';
  }
  for (const auto& [coding, value] : machine.decoding) text << value << " decoding " << coding << '\n';
  for (const double error : machine.prediction_errors) text << error << " prediction_error\n";
  text << machine.disturbed << " disturbed\n" << machine.cut_short << " cut_short\n";
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
    double value = 0;
    const auto read = std::from_chars(line.data(), line.data() + space, value);
    if (read.ec != std::errc() || read.ptr != line.data() + space || !std::isfinite(value) || value < 0)
      return damaged();
    const std::string name = line.substr(space + 1);
    constexpr std::string_view decoding = "decoding ", by_cores = "decoded_by_cores ";
    if (name.starts_with(decoding)) {
      machine.decoding[name.substr(decoding.size())] = value;
    } else if (name.starts_with(by_cores)) {
      machine.decoded_by_cores.insert(name.substr(by_cores.size()));
    } else if (name == "prediction_error") {
      machine.prediction_errors.push_back(value);
    } else {
      numbers[name] = value;
    }
  }
  bool complete = machine.prediction_errors.size() <= 8;
  detail::for_each_cost(machine, [&](const char* name, double& value) {
    const auto found = numbers.find(name);
    complete = complete && found != numbers.end();
    if (found != numbers.end()) value = found->second;
  });
  if (numbers.contains("copy.bytes_per_s")) {
    detail::for_each_copy_cost(machine.costs.copy, [&](const char* name, auto& value) {
      complete = complete && numbers.contains(name) && numbers[name] < 0x1p53;
      if (complete) value = static_cast<std::remove_reference_t<decltype(value)>>(numbers[name]);
    });
    complete = complete && machine.costs.copy.bytes_per_s > 0;
    machine.costs.on.compute = Resource::device;
  }
  if (!complete || machine.costs.link.bytes_per_s <= 0 || machine.memory.bytes_per_s <= 0) return damaged();
  machine.disturbed = numbers["disturbed"] != 0;
  machine.cut_short = numbers["cut_short"] != 0;
  return machine;
}

}  // namespace krul::eval
