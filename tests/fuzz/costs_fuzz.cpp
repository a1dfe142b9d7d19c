// Any bytes as what a machine's costs are kept in, and as names of links and what a system says of its load.
#include "fuzz_target.hpp"
#include "krul/eval/machine_costs.hpp"
#include "krul/eval/machine_load.hpp"

namespace krul::fuzz {
namespace {

void read_costs(std::span<const std::byte> bytes) {
  Input input(bytes);
  const std::size_t which = input.byte() % 4;
  const std::string text(as_text(input.rest()));
  if (which == 1) return static_cast<void>(accepted(eval::parse_links(text)));
  if (which == 2) {
    accepted(eval::parse_processor_times(text));
    accepted(eval::parse_process_ticks(text));
    return;
  }
  if (which == 3) return static_cast<void>(eval::parse_machine(text, text));
  const auto costs = eval::machine_costs_from(text);
  if (!accepted(costs)) return;
  const auto again = eval::machine_costs_from(eval::to_text(*costs));
  require(again && eval::to_text(*again) == eval::to_text(*costs), "costs are not read as they were written");
  require(costs->costs.link.bytes_per_s > 0 && costs->memory.bytes_per_s > 0, "a link has no speed");
  require(costs->costs.layer.call_s >= 0 && costs->costs.open_s >= 0, "a cost is negative");
}

std::vector<Bytes> costs_seeds() {
  eval::MachineCosts costs;
  costs.costs.link.bytes_per_s = 1e9;
  costs.memory.bytes_per_s = 2e10;
  costs.decoding["int8"] = 1e-7;
  costs.prediction_errors = {0.1};
  std::vector<Bytes> seeds = {joined({0}, eval::to_text(costs))};
  costs.costs.on = {.compute = Resource::device, .decode = Resource::device};
  costs.costs.copy = {.latency_s = 1e-6, .bytes_per_s = 1e10, .row_bytes = 4096};
  seeds.push_back(joined({0}, eval::to_text(costs)));
  seeds.push_back(joined({1}, "100MB/s,disk,memory,1.3x,2.5 GB/s,1TB/s,7kB/s"));
  seeds.push_back(joined({2}, "cpu  10 20 30 40 50 60 70 80 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n"));
  seeds.push_back(joined({2}, "17 (a (b) c) S 1 1 1 0 -1 4194560 1 0 0 0 7 9 0 0 20 0 1 0 5 1 1\n"));
  seeds.push_back(joined({3}, "processor : 0\nmodel name : A CPU\nMemTotal:  16384 kB\nphysical id : 0\n"));
  return seeds;
}

}  // namespace

Target costs_target() {
  return {"costs", read_costs, costs_seeds};
}

}  // namespace krul::fuzz
