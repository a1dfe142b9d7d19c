#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/eval/peer_coder.hpp"
#include "krul/eval/peer_run.hpp"
#include "krul/eval/strategy_run.hpp"

namespace krul::eval {

/// What conversations take while they are idle.
struct StoredSize {
  double bytes = 0;
  double rows = 0;  ///< tokens whose state is stored

  template <class Run>
  [[nodiscard]] static StoredSize of(const Run& run) {
    return {static_cast<double>(run.stored_bytes()), static_cast<double>(run.stored_rows())};
  }
  void add(const StoredSize& other) {
    bytes += other.bytes;
    rows += other.rows;
  }
  [[nodiscard]] double bytes_per_row() const noexcept { return bytes / rows; }
};

/// What an evaluation compares: strategies, and published coders behind them.
template <ModelBackend B>
class Contenders {
 public:
  /// What is known of the restores that a strategy plans for; none: nobody plans.
  using CostsOf = std::function<std::optional<Costs>(const AnyStrategy&)>;

  /// @param model  kept by reference
  Contenders(B& model, std::vector<AnyStrategy> strategies, CostsOf costs, std::vector<PeerCoder> peers = {})
      : model_(&model), strategies_(std::move(strategies)), costs_(std::move(costs)), peers_(std::move(peers)) {}

  [[nodiscard]] B& model() const noexcept { return *model_; }
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const AnyStrategy& strategy : strategies_) names.push_back(strategy.name());
    for (const PeerCoder& peer : peers_) names.push_back(peer.name());
    return names;
  }

  /// A history that was never interrupted, with all that the strategies need of it and room for `more` tokens.
  /// @param coming  the first of these tokens, where they are known
  [[nodiscard]] ExactHistory<B> exact(std::span<const Token> history, std::size_t more,
                                      std::span<const Token> coming = {}) const {
    return prefill_exact(*model_, history, more, strategies_, coming);
  }

  /// A conversation of each strategy, nothing of it saved.
  [[nodiscard]] std::vector<StrategyRun<B>> runs() const {
    std::vector<StrategyRun<B>> begun;
    for (const AnyStrategy& strategy : strategies_) begun.emplace_back(*model_, strategy, costs_(strategy));
    return begun;
  }

  /// Calls use(run) with a StrategyRun or a PeerRun for each of them, one after the other; the first error ends it.
  /// @param use  (run) -> Status
  template <class Use>
  [[nodiscard]] Status for_each(Use&& use) const {
    for (const AnyStrategy& strategy : strategies_) {
      StrategyRun<B> run(*model_, strategy, costs_(strategy));
      if (auto status = use(run); !status) return status;
    }
    for (const PeerCoder& peer : peers_) {
      PeerRun<B, PeerCoder> run(*model_, peer);
      if (auto status = use(run); !status) return status;
    }
    return {};
  }

 private:
  B* model_;
  std::vector<AnyStrategy> strategies_;
  CostsOf costs_;
  std::vector<PeerCoder> peers_;
};

}  // namespace krul::eval
