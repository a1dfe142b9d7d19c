#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "krul/restore/restore_plan.hpp"
#include "krul/restore/timeline.hpp"
#include "krul/restore/validate.hpp"

namespace krul {

/// Pairs of a row and a key it sees, for rows at positions [first, first + rows): the row at t sees t + 1 keys.
[[nodiscard]] constexpr double attended_pairs(std::size_t first, std::size_t rows) noexcept {
  const auto r = static_cast<double>(rows);
  return r * static_cast<double>(first) + r * (r + 1) / 2;
}

/// Predicts restores of one conversation under given costs: what does not depend on the plan is summed up once.
///
/// The link reads layer 0's suffix, then layer 1's, ...; neighbouring blocks in one object are one request, up to
/// the layer's `most_bytes`, and a chunk that layers share is read once, for the shallowest that needs it. The cores do
/// in layer l:
///   project p_l + M rows; then only p_{l+1} + M rows go on (in the last layer the last row of the prompt)
///   the cores' share of layer l's reads; wait for them; decode the suffix's rows
///   attend and finish the rows that go on
/// and `pass_s` at the end. Layers that were coded together are decoded together, with the shallowest that wants a row,
/// and while the next request is read: a layer's requests take equal times then, and bring equal work. The cores' share
/// of the reads stands before the wait, since a link that is late anyway hides it.
class Predictor {
 public:
  /// Keeps references to both.
  /// @throws PreconditionError if a cost or a size is not valid
  /// @complexity O(L * blocks) time and memory
  Predictor(const RestoreSizes& sizes, const Costs& costs)
      : sizes_(sizes), costs_(costs), blocks_(sizes.blocks()), layers_(sizes.layers.size()) {
    expects_valid(costs);
    expects_valid(sizes);
    suffixes_.resize(layers_ * (blocks_ + 1));
    for (std::size_t layer = 0; layer < layers_; ++layer) {
      const StoredLayer& stored = sizes.layers[layer];
      const std::span<Reads> suffix = std::span(suffixes_).subspan(layer * (blocks_ + 1), blocks_ + 1);
      std::size_t end = blocks_;  // behind the last block of the request that starts at `block`
      for (std::size_t block = blocks_; block-- > 0;) {
        suffix[block].bytes = suffix[block + 1].bytes + stored.block_bytes[block];
        if (end > block + 1 && stored.block_object[block] != stored.block_object[block + 1]) end = block + 1;
        while (end > block + 1 && suffix[block].bytes - suffix[end].bytes > stored.most_bytes) --end;
        suffix[block].requests = suffix[end].requests + 1;
      }
    }
  }

  [[nodiscard]] std::size_t layers() const noexcept { return layers_; }

  struct Reads {
    std::uint64_t bytes = 0;
    std::size_t requests = 0;
  };
  /// What a layer reads from a block on, as if it shared no chunk.
  [[nodiscard]] Reads suffix(std::size_t layer, std::size_t block) const {
    return suffixes_[layer * (blocks_ + 1) + block];
  }
  /// Seconds of the cores for a row of a layer that was loaded, on average over its rows.
  [[nodiscard]] double decode_row_s(std::size_t layer) const {
    const StoredLayer& stored = sizes_.layers[layer];
    return (1 - stored.joint_share) * costs_.layer.decode_row_s + stored.joint_share * costs_.layer.joint_row_s +
           stored.projected_share * costs_.layer.project_row_s;
  }

  /// @param prefix  [L] tokens
  /// @throws PreconditionError if the prefix does not obey the invariant of RestorePlan
  /// @complexity O(L), and O(blocks) for each layer that shares; no allocation
  [[nodiscard]] Prediction operator()(const std::vector<std::size_t>& prefix) const {
    return walk(prefix, [](Lane, std::string_view, std::size_t, double, double) {});
  }

  /// The same, and calls observe(lane, name, layer, begin_s, end_s) for each piece of work; `layer` is L for what
  /// belongs to the whole pass.
  template <class Observe>
  [[nodiscard]] Prediction walk(const std::vector<std::size_t>& prefix, Observe&& observe) const {
    expects(prefix.size() == layers_, "predict: one prefix for each layer");
    const LayerCosts& cost = costs_.layer;
    const auto count = [](std::size_t rows) { return static_cast<double>(rows); };
    Prediction total;
    double now = 0;  // of the cores
    const auto work = [&](std::string_view name, std::size_t layer, double seconds) {
      observe(Lane::cores, name, layer, now, now + seconds);
      now += seconds;
      total.cores_s += seconds;
    };
    const std::size_t history = sizes_.history, prompt = sizes_.prompt;
    std::size_t above = history;
    for (std::size_t layer = 0; layer < layers_; ++layer) {
      const std::size_t front = prefix[layer];
      expects(front <= above && (front == history || front % sizes_.block == 0),
              "predict: prefixes must not grow with depth and must be whole blocks or the whole history");
      expects(front >= sizes_.layers[layer].unstored, "predict: what is not stored must be recomputed");
      above = front;
      const Reads reads = reads_of(prefix, layer);
      const double begin_s = total.link_s;
      const double read_s =
          costs_.link.latency_s * count(reads.requests) + static_cast<double>(reads.bytes) / costs_.link.bytes_per_s;
      observe(Lane::link, "read", layer, total.link_s, total.link_s + read_s);
      total.link_s += read_s;
      total.bytes += reads.bytes;

      work("project", layer, cost.call_s + count(front + prompt) * cost.project_row_s);
      work("read", layer, static_cast<double>(reads.bytes) * costs_.link.core_s_per_byte);
      const StoredLayer& stored = sizes_.layers[layer];
      const std::size_t decoded_before = stored.group_index > 0 ? prefix[layer - 1] : history;
      const double decode_s = count((decoded_before - front) * stored.group_layers) * decode_row_s(layer);
      const double parts = stored.group_layers > 1 && reads.requests > 0 ? count(reads.requests) : 1;
      now = std::max({now, begin_s + read_s / parts, total.link_s - decode_s * (1 - 1 / parts)});
      work("decode", layer, decode_s);
      const bool last = layer + 1 == layers_;
      const std::size_t carried = last ? 0 : prefix[layer + 1], rows = carried + (last ? 1 : prompt);
      const double pairs =
          attended_pairs(0, carried) + (last ? count(history + prompt) : attended_pairs(history, prompt));
      work("attend", layer, pairs * cost.attend_pair_s + count(history + prompt) * cost.attend_key_s);
      work("finish", layer, count(rows) * cost.finish_row_s);
    }
    work("pass", layers_, costs_.pass_s);
    total.first_token_s = now;
    return total;
  }

 private:
  /// What layer l reads under a plan.
  [[nodiscard]] Reads reads_of(const std::vector<std::size_t>& prefix, std::size_t layer) const {
    const StoredLayer& stored = sizes_.layers[layer];
    if (stored.shared_with.empty()) {
      const std::size_t first = prefix[layer] == sizes_.history ? blocks_ : prefix[layer] / sizes_.block;
      return suffixes_[layer * (blocks_ + 1) + first];
    }
    Reads reads;
    std::uint64_t request = 0;  // bytes of the request that the next block may join; 0: none
    for (std::size_t block = 0; block < blocks_; ++block) {
      if (!sizes_.reads(prefix, layer, block)) {
        request = 0;
        continue;
      }
      const std::uint64_t bytes = stored.block_bytes[block];
      const bool joins = request > 0 && stored.block_object[block] == stored.block_object[block - 1] &&
                         request + bytes <= stored.most_bytes;
      if (!joins) ++reads.requests;
      request = (joins ? request : 0) + bytes;
      reads.bytes += bytes;
    }
    return reads;
  }

  const RestoreSizes& sizes_;
  const Costs& costs_;
  std::size_t blocks_, layers_;
  std::vector<Reads> suffixes_;  // [L, blocks + 1] what is read from a block on of a layer that shares nothing
};

/// Seconds from opening a saved conversation until its restore starts.
/// @param manifest_bytes  of what says what is saved
/// @throws PreconditionError if a cost is not valid
[[nodiscard]] inline double predict_opening_s(const Costs& costs, std::uint64_t manifest_bytes) {
  expects_valid(costs);
  return costs.open_s + costs.link.latency_s +
         static_cast<double>(manifest_bytes) * (costs.open_s_per_byte + 1 / costs.link.bytes_per_s);
}

namespace detail {

inline void expects_plan_for(const RestorePlan& plan, const RestoreSizes& sizes) {
  expects(plan.history == sizes.history && plan.prompt == sizes.prompt && plan.block == sizes.block,
          "predict: the plan was made for other sizes");
}

}  // namespace detail

/// Seconds a plan will take.
/// @throws PreconditionError if costs, sizes or plan are not valid or do not belong together
[[nodiscard]] inline Prediction predict(const RestorePlan& plan, const RestoreSizes& sizes, const Costs& costs) {
  detail::expects_plan_for(plan, sizes);
  return Predictor(sizes, costs)(plan.prefix);
}

/// What predict() adds up, piece by piece; pieces that take no time are left out.
/// @throws PreconditionError if costs, sizes or plan are not valid or do not belong together
[[nodiscard]] inline Timeline predict_timeline(const RestorePlan& plan, const RestoreSizes& sizes, const Costs& costs) {
  detail::expects_plan_for(plan, sizes);
  const Predictor predictor(sizes, costs);
  Timeline timeline;
  static_cast<void>(predictor.walk(
      plan.prefix, [&](Lane lane, std::string_view name, std::size_t layer, double begin_s, double end_s) {
        if (end_s <= begin_s) return;
        Event event{lane, std::string(name), layer, begin_s, end_s};
        if (layer == predictor.layers()) event.layer.reset();
        timeline.add(std::move(event));
      }));
  return timeline;
}

}  // namespace krul
