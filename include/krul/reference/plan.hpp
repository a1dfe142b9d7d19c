#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "krul/restore/restore_plan.hpp"

namespace krul::reference {

/// Every admissible prefix of these sizes: all that do not grow with depth, of whole blocks or the whole history.
/// @complexity choose(blocks + L, L): for tiny sizes
[[nodiscard]] inline std::vector<std::vector<std::size_t>> all_prefixes(const RestoreSizes& sizes) {
  std::vector<std::vector<std::size_t>> prefixes = {{}};
  for (std::size_t layer = 0; layer < sizes.layers.size(); ++layer) {
    std::vector<std::vector<std::size_t>> longer;
    for (const auto& prefix : prefixes) {
      for (std::size_t block = 0; block <= sizes.blocks(); ++block) {
        const std::size_t tokens = std::min(block * sizes.block, sizes.history);
        if (!prefix.empty() && tokens > prefix.back()) continue;
        longer.push_back(prefix);
        longer.back().push_back(tokens);
      }
    }
    prefixes = std::move(longer);
  }
  return prefixes;
}

/// Twin of predict: a list of pieces of work, one for each request and each part of a layer that was coded with others,
/// summed up row by row and pair by pair, and done one after the other.
class SlowRestore {
 public:
  SlowRestore(const RestorePlan& plan, const RestoreSizes& sizes, const Costs& costs) : costs_(costs) {
    for (std::size_t layer = 0; layer < plan.prefix.size(); ++layer) {
      add_reads(plan.prefix, layer, sizes);
      add_steps(plan, layer, sizes);
    }
    add({costs_.on.compute, costs_.pass_s});
  }

  /// Each piece starts as soon as its resource is free and what it waits for is done.
  [[nodiscard]] Prediction run() {
    Prediction total;
    total.bytes = bytes_;
    ResourceTimes free;
    for (Piece& piece : pieces_) {
      double begin_s = free[piece.resource];
      for (const std::size_t before : piece.after) begin_s = std::max(begin_s, pieces_[before].end_s);
      piece.end_s = free[piece.resource] = begin_s + piece.seconds;
      total.busy[piece.resource] += piece.seconds;
    }
    total.first_token_s = pieces_.back().end_s;
    return total;
  }

 private:
  struct Piece {
    Resource resource;
    double seconds;
    std::vector<std::size_t> after = {};  ///< indices of earlier pieces
    double end_s = 0;
  };

  std::size_t add(Piece piece) {
    pieces_.push_back(std::move(piece));
    return pieces_.size() - 1;
  }

  void add_reads(const std::vector<std::size_t>& prefix, std::size_t layer, const RestoreSizes& sizes) {
    const StoredLayer& stored = sizes.layers[layer];
    std::vector<std::uint64_t> requests;
    layer_bytes_ = 0;
    bool neighbour = false;
    for (std::size_t block = 0; block < sizes.blocks(); ++block) {
      const bool before = std::exchange(neighbour, needs(prefix, layer, block, sizes));
      if (!neighbour) continue;
      const std::uint64_t bytes = stored.block_bytes[block];
      layer_bytes_ += bytes;
      const bool joins = before && stored.block_object[block] == stored.block_object[block - 1] &&
                         requests.back() + bytes <= stored.most_bytes;
      if (joins) {
        requests.back() += bytes;
      } else {
        requests.push_back(bytes);
      }
    }
    bytes_ += layer_bytes_;
    reads_.clear();
    for (const std::uint64_t request : requests) {
      const double bytes = stored.group_layers > 1
                               ? static_cast<double>(layer_bytes_) / static_cast<double>(requests.size())
                               : static_cast<double>(request);
      reads_.push_back(add({Resource::link, costs_.link.latency_s + bytes / costs_.link.bytes_per_s}));
    }
  }

  /// Whether this layer is the first that must have the block's chunk read.
  static bool needs(const std::vector<std::size_t>& prefix, std::size_t layer, std::size_t block,
                    const RestoreSizes& sizes) {
    if (block * sizes.block < prefix[layer]) return false;
    for (std::size_t l = layer;;) {
      const auto& shared = sizes.layers[l].shared_with;
      if (shared.empty() || shared[block] < 0) return true;
      l = static_cast<std::size_t>(shared[block]);
      if (block * sizes.block >= prefix[l]) return false;
    }
  }

  void add_steps(const RestorePlan& plan, std::size_t layer, const RestoreSizes& sizes) {
    const LayerCosts& cost = costs_.layer;
    const StoredLayer& stored = sizes.layers[layer];
    const bool last = layer + 1 == sizes.layers.size(), copies = costs_.on.compute == Resource::device;
    const std::size_t end = plan.history + plan.prompt;
    double before = cost.call_s, decode = 0, project = 0, copied_rows = 0, after = 0;
    for (std::size_t t = 0; t < end; ++t) {
      const bool prompt = t >= plan.history;
      if (prompt || t < plan.prefix[layer]) before += cost.project_row_s;
      const bool decoded_before = stored.group_index > 0 && t >= plan.prefix[layer - 1];
      if (!prompt && t >= plan.prefix[layer] && !decoded_before) {
        const auto layers = static_cast<double>(stored.group_layers);
        decode += layers * (stored.joint_share * cost.joint_row_s + (1 - stored.joint_share) * cost.decode_row_s);
        project += layers * stored.projected_share * cost.project_row_s;
        copied_rows += layers * (1 - stored.projected_share) * static_cast<double>(costs_.copy.row_bytes);
      }
      const bool goes_on = last ? t + 1 == end : prompt || t < plan.prefix[layer + 1];
      if (!goes_on) continue;
      after += cost.finish_row_s;
      for (std::size_t key = 0; key <= t; ++key) after += cost.attend_pair_s;
    }
    for (std::size_t key = 0; key < end; ++key) after += cost.attend_key_s;

    add({costs_.on.compute, before});
    const auto bytes = static_cast<double>(layer_bytes_), requests = static_cast<double>(reads_.size());
    const std::size_t share = add({Resource::cores, bytes * costs_.link.core_s_per_byte});
    const bool as_read = costs_.on.decode == Resource::device;
    const double copied = as_read ? bytes : copied_rows + stored.projected_share * bytes;
    std::vector<Piece> chain;
    if (copies) chain.push_back({Resource::copy, costs_.copy.latency_s * requests + copied / costs_.copy.bytes_per_s});
    chain.insert(as_read ? chain.end() : chain.begin(), Piece{costs_.on.decode, decode});
    chain.push_back({costs_.on.compute, project});
    const std::size_t parts = stored.group_layers > 1 ? std::max<std::size_t>(reads_.size(), 1) : 1;
    std::size_t loaded = share;
    // Part by part, so that each resource has its parts in order.
    for (std::size_t part = 0; part < parts; ++part) {
      loaded = share;
      for (const Piece& step : chain) {
        Piece piece{step.resource, step.seconds / static_cast<double>(parts), {loaded}};
        if (!reads_.empty()) piece.after.push_back(parts == 1 ? reads_.back() : reads_[part]);
        loaded = add(std::move(piece));
      }
    }
    add({costs_.on.compute, after, {loaded}});
  }

  Costs costs_;
  std::uint64_t bytes_ = 0, layer_bytes_ = 0;
  std::vector<std::size_t> reads_;  ///< the pieces of the layer's requests
  std::vector<Piece> pieces_;
};

}  // namespace krul::reference
