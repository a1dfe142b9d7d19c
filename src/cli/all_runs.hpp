#pragma once

#include <string>
#include <vector>

#include "evaluate.hpp"
#include "krul/eval/peer_run.hpp"
#include "krul/eval/strategy_run.hpp"

namespace krul::cli {

/// What an evaluation compares: its strategies, then the published coders.
[[nodiscard]] inline std::vector<std::string> names_of_runs(const Evaluation& run) {
  std::vector<std::string> names;
  for (const auto& strategy : run.strategies) names.push_back(strategy.name());
  for (const auto& coder : run.peers) names.push_back(coder.name());
  return names;
}

using eval::logits_after, eval::GreedyChoice, eval::go_on_from;
using StrategyRun = eval::StrategyRun<CpuModel>;
using PeerRun = eval::PeerRun<CpuModel>;

/// Calls use(index, state) with a StrategyRun or a PeerRun for each of them.
template <class Use>
void for_each_run(Evaluation& run, Use&& use) {
  std::size_t index = 0;
  for (const auto& strategy : run.strategies)
    use(index++, StrategyRun(run.model.backend, strategy, run.costs_for(strategy)));
  for (const auto& coder : run.peers) use(index++, PeerRun(run.model.backend, coder));
}

}  // namespace krul::cli
