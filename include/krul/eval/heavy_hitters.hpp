#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

#include "krul/backend/attention_observer.hpp"
#include "krul/backend/kv_rows.hpp"
#include "krul/core/geometry.hpp"

namespace krul::eval {

/// Attention that every key has received, summed over query rows and over the query heads of its KV head.
/// @source H2O, arXiv:2306.14048; second-hand. One sum for all query heads of a KV head: ours
class KeyMasses {
 public:
  explicit KeyMasses(const Geometry& geometry) : geometry_(geometry), masses_(geometry.layers * geometry.kv_heads) {}

  void operator()(const AttentionBlock& block) {
    const std::size_t rows = block.queries.size(), heads = geometry_.query_heads / geometry_.kv_heads;
    for (std::size_t head = 0; head < block.query_heads; ++head) {
      auto& sums = masses_[block.layer * geometry_.kv_heads + head / heads];
      if (sums.size() < block.keys) sums.resize(block.keys, 0);
      for (std::size_t row = 0; row < rows; ++row)
        for (std::size_t key = 0; key < block.keys; ++key)
          sums[key] += block.weights[(head * rows + row) * block.keys + key];
    }
  }

  /// The keys that stay, ascending: the latest half of the budget, and of those before the ones with the largest mass.
  /// @param keep  how many, at most as many as there are
  [[nodiscard]] std::vector<std::size_t> kept(std::size_t layer, std::size_t kv_head, std::size_t keep) const {
    const auto& sums = masses_[layer * geometry_.kv_heads + kv_head];
    expects(keep <= sums.size(), "KeyMasses: more keys are to be kept than were seen");
    const std::size_t recent = keep / 2, older = sums.size() - recent;
    std::vector<std::size_t> order(older);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return sums[a] > sums[b]; });
    order.resize(keep - recent);
    std::sort(order.begin(), order.end());
    for (std::size_t key = older; key < sums.size(); ++key) order.push_back(key);
    return order;
  }

  [[nodiscard]] const Geometry& geometry() const noexcept { return geometry_; }

 private:
  Geometry geometry_;
  std::vector<std::vector<float>> masses_;  ///< [L * G][K]
};
static_assert(AttentionObserver<KeyMasses>);

/// Rows of one layer from which all but some keys of each KV head are gone: what is left moves together, and keys are
/// turned back by as many positions as are missing, so that tokens that follow at position `keep` see them from where
/// they would have seen them. Attention knows differences of positions only.
/// @param rows  [N, G, D] of the whole history
/// @param kept  [G][keep] of each head, ascending
/// @param to    [keep, G, D]
/// @throws PreconditionError if a length does not fit
void keep_heavy_hitters(const Geometry& geometry, const KvRows& rows, std::span<const std::vector<std::size_t>> kept,
                        const MutableKvRows& to);

}  // namespace krul::eval
