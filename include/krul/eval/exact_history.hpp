#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "krul/backend/forward.hpp"
#include "krul/compress/hidden_states.hpp"
#include "krul/conversation/detail/attention_watch.hpp"
#include "krul/core/half.hpp"
#include "krul/eval/heavy_hitters.hpp"
#include "krul/eval/predictability.hpp"
#include "krul/similarity/observe.hpp"
#include "krul/strategy/any_strategy.hpp"

namespace krul::eval {

/// A conversation that nothing ever interrupted, with all that some strategy needs when it is saved.
template <ModelBackend B>
struct ExactHistory {
  typename B::Cache cache;
  AttentionStatistics statistics = {};
  RowAttention row_attention = {};
  RowAttention coming_attention = {};  ///< what the rows receive from what comes next
  std::optional<KeyMasses> masses = {};
  std::optional<HiddenStates> hidden = {};
  std::vector<double> unpredictability = {};  ///< [L, L]
};

namespace detail {

/// Sums what the rows of a history receive from what comes next: of every row, head and layer.
class ComingAttention {
 public:
  /// @param history  rows
  ComingAttention(std::vector<std::size_t> bands, std::size_t history) : sums_(std::move(bands)) {
    sums_.reserve_rows(history);
    for (std::size_t band = 0; band < sums_.bands(); ++band)
      band_of_.insert(band_of_.end(), sums_.band_layers[band], band);
  }
  void operator()(const AttentionBlock& block) {
    if (block.layer == 0) sums_.counted += static_cast<double>(block.queries.size());
    float* const squares = sums_.squares.data() + band_of_[block.layer] * sums_.rows;
    for (std::size_t row = 0; row < block.query_heads * block.queries.size(); ++row)
      for (std::size_t key = 0; key < sums_.rows; ++key) {
        const float weight = block.weights[row * block.keys + key];
        squares[key] += weight * weight;
      }
  }
  [[nodiscard]] const RowAttention& sums() const noexcept { return sums_; }

 private:
  RowAttention sums_;
  std::vector<std::size_t> band_of_;  // [L]
};
static_assert(AttentionObserver<ComingAttention>);

/// Shows attention to both.
struct HistoryObserver {
  krul::detail::AttentionWatch& watch;
  KeyMasses& masses;
  void operator()(const AttentionBlock& observed) {
    watch(observed);
    masses(observed);
  }
  void observe_from(Position position) { watch.observe_from(position); }
  void observe_until(Position end) { watch.observe_until(end); }
  [[nodiscard]] std::size_t block_rows() const { return watch.block_rows(); }
};

template <KvCache Cache>
[[nodiscard]] std::vector<double> unpredictability_of(const Cache& cache, const Geometry& geometry) {
  const std::size_t tokens = cache.length();
  std::vector<std::byte> bytes[2];
  for (auto& each : bytes) each.resize(tokens * geometry.kv_row_bytes());
  std::vector<std::vector<float>> keys(geometry.layers), values(geometry.layers);
  for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
    cache.wait(cache.read_kv(layer, {0, tokens}, {bytes[0], bytes[1]}));
    keys[layer].resize(tokens * geometry.kv_values());
    values[layer].resize(keys[layer].size());
    to_float(geometry.cache_type, bytes[0], keys[layer]);
    to_float(geometry.cache_type, bytes[1], values[layer]);
  }
  return unpredictability(geometry, keys, values);
}

}  // namespace detail

/// Runs a history through the model, with room for `more` tokens behind it, and gathers what the strategies need of it.
/// @param coming  the tokens that come next, as many as there is room for at most, for a strategy that would know them
/// @post  hidden states are missing where the backend's batches lend none
/// @throws NotFiniteError if the model's numbers are not finite
template <ModelBackend B>
[[nodiscard]] ExactHistory<B> prefill_exact(B& model, std::span<const Token> history, std::size_t more,
                                            std::span<const AnyStrategy> strategies = {},
                                            std::span<const Token> coming = {}) {
  const Geometry& geometry = model.geometry();
  ExactHistory<B> exact{.cache = model.make_cache(history.size() + more)};
  if (history.empty()) return exact;
  const auto any_needs = [&](bool Needs::*what) {
    return std::ranges::any_of(strategies, [&](const AnyStrategy& strategy) { return strategy.needs().*what; });
  };
  const bool needs_masses = any_needs(&Needs::key_masses);
  auto batch = model.make_batch();
  Needs of_all{.attention = any_needs(&Needs::attention)};
  for (const AnyStrategy& strategy : strategies)
    if (of_all.row_attention.empty()) of_all.row_attention = strategy.needs().row_attention;
  if (needs_masses || krul::detail::AttentionWatch::is_needed(of_all)) {
    krul::detail::AttentionWatch watch(geometry, of_all);
    if (needs_masses) {
      exact.masses.emplace(geometry);
      detail::HistoryObserver observer{watch, *exact.masses};
      observed_prefill(model, exact.cache, batch, history, {}, observer);
    } else {
      observed_prefill(model, exact.cache, batch, history, {}, watch);
    }
    if (const auto* statistics = watch.statistics()) exact.statistics = *statistics;
    if (const auto* rows = watch.row_attention()) exact.row_attention = *rows;
  } else {
    prefill(model, exact.cache, batch, history, {});
  }
  if constexpr (LendsHiddenStates<typename B::Batch>)
    if (any_needs(&Needs::hidden_states)) {
      exact.hidden.emplace(geometry);
      auto again = model.make_cache(history.size());
      forward_keeping_hidden(model, again, batch, history, *exact.hidden);
    }
  if (any_needs(&Needs::coming_attention) && !coming.empty()) {
    detail::ComingAttention observer(of_all.row_attention, history.size());
    constexpr std::size_t piece = 64;
    for (auto rest = coming; !rest.empty(); rest = rest.subspan(std::min(piece, rest.size())))
      forward(model, exact.cache, batch, rest.first(std::min(piece, rest.size())), {}, observer);
    exact.coming_attention = observer.sums();
    exact.cache.truncate(history.size());
  }
  if (any_needs(&Needs::predictability)) exact.unpredictability = detail::unpredictability_of(exact.cache, geometry);
  return exact;
}

}  // namespace krul::eval
