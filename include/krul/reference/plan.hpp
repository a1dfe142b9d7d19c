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

/// Twin of predict: runs the restore event by event, one request, row and pair at a time, on two lanes that are stepped
/// to whatever ends next.
class SlowRestore {
 public:
  SlowRestore(const RestorePlan& plan, const RestoreSizes& sizes, const Costs& costs) : costs_(costs) {
    for (std::size_t layer = 0; layer < plan.prefix.size(); ++layer) {
      add_reads(plan.prefix, layer, sizes);
      add_steps(plan, layer, sizes);
    }
    steps_.push_back({costs.pass_s, 0});
  }

  [[nodiscard]] Prediction run() {
    Prediction total;
    double now = 0, read_left = 0, step_left = 0;
    std::size_t read = 0, step = 0;
    bool reading = false, stepping = false;
    while (read < reads_.size() || step < steps_.size()) {
      if (!reading && read < reads_.size()) reading = true, read_left = reads_[read].seconds;
      if (!stepping && step < steps_.size() && read >= steps_[step].reads_before)
        stepping = true, step_left = steps_[step].seconds;
      const double advance = reading && stepping ? std::min(read_left, step_left) : reading ? read_left : step_left;
      now += advance;
      if (reading) {
        total.link_s += advance;
        read_left -= advance;
      }
      if (stepping) {
        total.cores_s += advance;
        step_left -= advance;
      }
      if (reading && read_left <= 0) total.bytes += reads_[read++].bytes, reading = false;
      if (stepping && step_left <= 0) ++step, stepping = false;
    }
    total.first_token_s = now;
    return total;
  }

 private:
  struct Read {
    double seconds;
    std::uint64_t bytes;
  };
  struct Step {
    double seconds;
    std::size_t reads_before;  ///< may start when so many reads are done
  };

  void add_reads(const std::vector<std::size_t>& prefix, std::size_t layer, const RestoreSizes& sizes) {
    const StoredLayer& stored = sizes.layers[layer];
    std::vector<Read> requests;
    layer_bytes_ = 0;
    bool neighbour = false;
    for (std::size_t block = 0; block < sizes.blocks(); ++block) {
      const bool before = std::exchange(neighbour, needs(prefix, layer, block, sizes));
      if (!neighbour) continue;
      const std::uint64_t bytes = stored.block_bytes[block];
      layer_bytes_ += bytes;
      const bool joins = before && stored.block_object[block] == stored.block_object[block - 1] &&
                         requests.back().bytes + bytes <= stored.most_bytes;
      if (joins) {
        requests.back().bytes += bytes;
      } else {
        requests.push_back({0, bytes});
      }
    }
    layer_requests_ = requests.size();
    for (Read& request : requests) {
      request.seconds = costs_.link.latency_s + static_cast<double>(request.bytes) / costs_.link.bytes_per_s;
      if (stored.group_layers > 1)
        request.seconds = costs_.link.latency_s + static_cast<double>(layer_bytes_) / costs_.link.bytes_per_s /
                                                      static_cast<double>(layer_requests_);
      reads_.push_back(request);
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
    const bool last = layer + 1 == sizes.layers.size();
    const std::size_t end = plan.history + plan.prompt;
    double before = cost.call_s + static_cast<double>(layer_bytes_) * costs_.link.core_s_per_byte, decode = 0,
           after = 0;
    for (std::size_t t = 0; t < end; ++t) {
      const bool prompt = t >= plan.history;
      if (prompt || t < plan.prefix[layer]) before += cost.project_row_s;
      const bool decoded_before = stored.group_index > 0 && t >= plan.prefix[layer - 1];
      if (!prompt && t >= plan.prefix[layer] && !decoded_before)
        decode += static_cast<double>(stored.group_layers) *
                  (stored.joint_share * cost.joint_row_s + (1 - stored.joint_share) * cost.decode_row_s +
                   stored.projected_share * cost.project_row_s);
      const bool goes_on = last ? t + 1 == end : prompt || t < plan.prefix[layer + 1];
      if (!goes_on) continue;
      after += cost.finish_row_s;
      for (std::size_t key = 0; key <= t; ++key) after += cost.attend_pair_s;
    }
    for (std::size_t key = 0; key < end; ++key) after += cost.attend_key_s;
    steps_.push_back({before, 0});
    const std::size_t parts = stored.group_layers > 1 ? std::max<std::size_t>(layer_requests_, 1) : 1;
    for (std::size_t left = parts; left-- > 0;)
      steps_.push_back({decode / static_cast<double>(parts), reads_.size() - std::min(left, layer_requests_)});
    steps_.push_back({after, 0});
  }

  Costs costs_;
  std::uint64_t layer_bytes_ = 0;
  std::size_t layer_requests_ = 0;
  std::vector<Read> reads_;
  std::vector<Step> steps_;
};

}  // namespace krul::reference
