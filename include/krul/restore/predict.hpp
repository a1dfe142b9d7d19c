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
#include "krul/restore/schedule.hpp"
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
/// The work on each resource, in this order; where nothing computes on a device, the cores compute:
///   link     reads layer 0's suffix, then layer 1's, ...; neighbouring blocks in one object are one request, up to the
///            layer's `most_bytes`, and a chunk that layers share is read once, for the shallowest that needs it
///   cores    their share of layer l's reads; decode the suffix's rows once they are read, unless the device does
///   copy     layer l's rows once they are decoded, or what was read if the device decodes
///   compute  project p_l + M rows; then only p_{l+1} + M rows go on (in the last layer the last row of the prompt);
///            wait for the suffix's rows, and decode or project what has to be; attend and finish the rows that go on;
///            `pass_s` at the end
/// Layers that were coded together are decoded together, with the shallowest that wants a row, and while the next
/// request is read: a layer's requests take equal times then, and bring equal work. The cores' share of the reads
/// stands before the wait, since a link that is late anyway hides it.
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
  /// Seconds for a row of a layer that was loaded, on average over its rows, where it is decoded. What has to be
  /// projected is so at once where that computes.
  [[nodiscard]] double decode_row_s(std::size_t layer) const {
    const StoredLayer& stored = sizes_.layers[layer];
    return (1 - stored.joint_share) * costs_.layer.decode_row_s + stored.joint_share * costs_.layer.joint_row_s +
           (costs_.on.decode == costs_.on.compute ? projected_row_s(layer) : 0);
  }

  /// What bringing back rows of a layer takes, step by step.
  struct LoadTimes {
    double read_s = 0;        ///< on the link
    double cores_read_s = 0;  ///< the cores' share of that
    double decode_s = 0;      ///< where it is decoded
    double copy_s = 0;        ///< to a device; 0 if none computes
    double project_s = 0;     ///< where it is computed, if that does not decode
  };
  /// @param rows  that are decoded
  [[nodiscard]] LoadTimes load(std::size_t layer, const Reads& reads, double rows) const {
    const auto bytes = static_cast<double>(reads.bytes), requests = static_cast<double>(reads.requests);
    LoadTimes times{.read_s = costs_.link.latency_s * requests + bytes / costs_.link.bytes_per_s,
                    .cores_read_s = bytes * costs_.link.core_s_per_byte,
                    .decode_s = rows * decode_row_s(layer)};
    if (costs_.on.compute == Resource::cores) return times;
    double copied = bytes;
    if (costs_.on.decode == Resource::cores) {
      const double projected = sizes_.layers[layer].projected_share;
      copied = projected * bytes + (1 - projected) * rows * static_cast<double>(costs_.copy.row_bytes);
      times.project_s = rows * projected_row_s(layer);
    }
    times.copy_s = costs_.copy.latency_s * requests + copied / costs_.copy.bytes_per_s;
    return times;
  }

  /// @param prefix  [L] tokens
  /// @throws PreconditionError if the prefix does not obey the invariant of RestorePlan
  /// @complexity O(L), and O(blocks) for each layer that shares; no allocation
  [[nodiscard]] Prediction operator()(const std::vector<std::size_t>& prefix) const {
    return walk(prefix, [](Resource, std::string_view, std::size_t, double, double) {});
  }

  /// The same, and calls observe(resource, name, layer, begin_s, end_s) for each piece of work; `layer` is L for what
  /// belongs to the whole pass. What computes has one piece named "decode" a layer, behind its wait for the loaded
  /// rows.
  template <class Observe>
  [[nodiscard]] Prediction walk(const std::vector<std::size_t>& prefix, Observe&& observe) const {
    expects(prefix.size() == layers_, "predict: one prefix for each layer");
    const LayerCosts& cost = costs_.layer;
    const auto [compute, decode] = costs_.on;
    const auto count = [](std::size_t rows) { return static_cast<double>(rows); };
    Prediction total;
    Schedule schedule;
    const auto work = [&](std::string_view name, std::size_t layer, const Work& piece, const WorkTimes& after = {}) {
      const WorkTimes times = schedule.add(piece, after);
      observe(piece.resource, name, layer, times.begin_s, times.end_s);
      return times;
    };
    const std::size_t history = sizes_.history, prompt = sizes_.prompt;
    std::size_t above = history;
    for (std::size_t layer = 0; layer < layers_; ++layer) {
      const std::size_t front = prefix[layer];
      expects(front <= above && (front == history || front % sizes_.block == 0),
              "predict: prefixes must not grow with depth and must be whole blocks or the whole history");
      expects(front >= sizes_.layers[layer].unstored, "predict: what is not stored must be recomputed");
      above = front;
      const StoredLayer& stored = sizes_.layers[layer];
      const Reads reads = reads_of(prefix, layer);
      const std::size_t decoded_before = stored.group_index > 0 ? prefix[layer - 1] : history;
      const LoadTimes times = load(layer, reads, count((decoded_before - front) * stored.group_layers));
      const double parts = stored.group_layers > 1 && reads.requests > 0 ? count(reads.requests) : 1;
      total.bytes += reads.bytes;

      const WorkTimes read = work("read", layer, {Resource::link, times.read_s, parts});
      work("project", layer, {compute, cost.call_s + count(front + prompt) * cost.project_row_s});
      WorkTimes loaded = both(read, work("read", layer, {Resource::cores, times.cores_read_s}));
      if (decode == compute && compute == Resource::device)
        loaded = work("copy", layer, {Resource::copy, times.copy_s, parts}, loaded);
      loaded = work("decode", layer, {decode, times.decode_s, parts}, loaded);
      if (decode != compute) {
        loaded = work("copy", layer, {Resource::copy, times.copy_s, parts}, loaded);
        loaded = work("decode", layer, {compute, times.project_s, parts}, loaded);
      }
      const bool last = layer + 1 == layers_;
      const std::size_t carried = last ? 0 : prefix[layer + 1], rows = carried + (last ? 1 : prompt);
      const double pairs =
          attended_pairs(0, carried) + (last ? count(history + prompt) : attended_pairs(history, prompt));
      work("attend", layer, {compute, pairs * cost.attend_pair_s + count(history + prompt) * cost.attend_key_s});
      work("finish", layer, {compute, count(rows) * cost.finish_row_s});
    }
    total.first_token_s = work("pass", layers_, {compute, costs_.pass_s}).end_s;
    total.busy = schedule.busy();
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

  [[nodiscard]] double projected_row_s(std::size_t layer) const {
    return sizes_.layers[layer].projected_share * costs_.layer.project_row_s;
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
  return costs.open_s + costs.link.open_s + costs.link.latency_s +
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
      plan.prefix, [&](Resource resource, std::string_view name, std::size_t layer, double begin_s, double end_s) {
        if (end_s <= begin_s) return;
        Event event{resource, std::string(name), layer, begin_s, end_s};
        if (layer == predictor.layers()) event.layer.reset();
        timeline.add(std::move(event));
      }));
  return timeline;
}

}  // namespace krul
