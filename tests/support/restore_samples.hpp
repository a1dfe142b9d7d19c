#pragma once

#include <cmath>
#include <cstddef>
#include <random>
#include <vector>

#include "krul/restore/restore_plan.hpp"

namespace krul::testing {

[[nodiscard]] inline std::size_t up_to(std::mt19937_64& random, std::size_t most) {
  return random() % (most + 1);
}

/// 0 now and then, otherwise any magnitude from 10^low to 10^high.
[[nodiscard]] inline double any_cost(std::mt19937_64& random, double low, double high) {
  if (random() % 8 == 0) return 0;
  return std::pow(10, low + (high - low) * static_cast<double>(random() % 1000) / 1000);
}

[[nodiscard]] inline Costs random_costs(std::mt19937_64& random) {
  Costs costs;
  costs.link.latency_s = any_cost(random, -6, -2);
  costs.link.bytes_per_s = std::pow(10, 6 + 5 * static_cast<double>(random() % 1000) / 1000);
  costs.link.core_s_per_byte = any_cost(random, -12, -9);
  costs.layer.call_s = any_cost(random, -6, -3);
  costs.layer.project_row_s = any_cost(random, -7, -4);
  costs.layer.finish_row_s = any_cost(random, -7, -4);
  costs.layer.attend_pair_s = any_cost(random, -10, -7);
  costs.layer.attend_key_s = any_cost(random, -9, -6);
  costs.layer.decode_row_s = any_cost(random, -8, -5);
  costs.layer.joint_row_s = any_cost(random, -7, -4);
  costs.pass_s = any_cost(random, -4, -2);
  return costs;
}

/// A machine with a device that computes, and decodes every other time.
[[nodiscard]] inline Costs random_device_costs(std::mt19937_64& random) {
  Costs costs = random_costs(random);
  costs.copy.latency_s = any_cost(random, -6, -3);
  costs.copy.bytes_per_s = std::pow(10, 7 + 4 * static_cast<double>(random() % 1000) / 1000);
  costs.copy.row_bytes = up_to(random, 4000000);
  costs.on = {Resource::device, random() % 2 ? Resource::device : Resource::cores};
  return costs;
}

struct SizesLimit {
  std::size_t layers = 8, blocks = 20, block = 8, prompt = 12;
  std::size_t block_bytes = 9000000;  ///< large enough that requests are cut
};

/// Any history, 0 included, whose last block may be partial; objects of a few blocks each.
[[nodiscard]] inline RestoreSizes random_sizes(std::mt19937_64& random, const SizesLimit& limit = {}) {
  RestoreSizes sizes;
  sizes.block = 1 + up_to(random, limit.block - 1);
  sizes.history = up_to(random, limit.blocks * sizes.block);
  sizes.prompt = 1 + up_to(random, limit.prompt - 1);
  sizes.layers.resize(1 + up_to(random, limit.layers - 1));
  const std::size_t largest = random() % 2 ? limit.block_bytes : limit.block_bytes / 1000;
  for (StoredLayer& layer : sizes.layers) {
    std::uint32_t object = 0;
    layer.joint_share = random() % 2 ? static_cast<double>(up_to(random, 4)) / 4 : 0;
    for (std::size_t block = 0; block < sizes.blocks(); ++block) {
      if (random() % 3 == 0) ++object;
      layer.block_bytes.push_back(up_to(random, largest));
      layer.block_object.push_back(object);
    }
  }
  return sizes;
}

/// A machine with a device on which reading, decoding or copying all of these sizes, and computing all of it, take
/// times that are alike within a factor of four: whatever a plan does, all resources count.
[[nodiscard]] inline Costs balanced_device_costs(std::mt19937_64& random, const RestoreSizes& sizes) {
  double bytes = 1;
  for (const StoredLayer& layer : sizes.layers)
    for (const std::uint64_t each : layer.block_bytes) bytes += static_cast<double>(each);
  const double rows = std::max(1.0, static_cast<double>(sizes.history * sizes.layers.size()));
  const auto about_a_second = [&] { return std::pow(2, static_cast<double>(up_to(random, 1000)) / 500 - 1); };
  const double compute_s = about_a_second();
  Costs costs;
  costs.link.bytes_per_s = bytes / about_a_second();
  costs.layer = {.project_row_s = compute_s / 3 / rows, .finish_row_s = compute_s * 2 / 3 / rows};
  costs.layer.decode_row_s = costs.layer.joint_row_s = about_a_second() / rows;
  costs.on = {Resource::device, random() % 2 ? Resource::device : Resource::cores};
  costs.copy = {.bytes_per_s = 1, .row_bytes = 1000};
  costs.copy.bytes_per_s = (costs.on.decode == Resource::device ? bytes : 1000 * rows) / about_a_second();
  return costs;
}

/// Any prefix that obeys the invariant of RestorePlan.
[[nodiscard]] inline std::vector<std::size_t> random_prefix(std::mt19937_64& random, const RestoreSizes& sizes) {
  std::vector<std::size_t> prefix(sizes.layers.size());
  std::size_t block = sizes.blocks();
  for (std::size_t& tokens : prefix) {
    if (random() % 2) block = up_to(random, block);
    tokens = std::min(block * sizes.block, sizes.history);
  }
  return prefix;
}

[[nodiscard]] inline RestorePlan plan_of(const RestoreSizes& sizes, std::vector<std::size_t> prefix) {
  return {sizes.history, sizes.prompt, sizes.block, std::move(prefix)};
}

/// A model of 30 layers with three KV heads of 64 on a mid-range machine, one byte a value, one object a layer.
[[nodiscard]] inline RestoreSizes realistic_sizes(std::size_t history, std::size_t prompt = 32) {
  RestoreSizes sizes{.history = history, .prompt = prompt, .block = 64, .layers = {}};
  StoredLayer layer;
  layer.block_bytes.assign(sizes.blocks(), 64 * 2 * 3 * 66);
  layer.block_object.assign(sizes.blocks(), 0);
  sizes.layers.assign(30, layer);
  return sizes;
}

[[nodiscard]] inline Costs realistic_costs(double bytes_per_s) {
  return {.link = {.latency_s = 2e-4, .bytes_per_s = bytes_per_s, .core_s_per_byte = 5e-11},
          .layer = {.call_s = 2e-5,
                    .project_row_s = 2e-6,
                    .finish_row_s = 1e-5,
                    .attend_pair_s = 1e-8,
                    .decode_row_s = 1e-7},
          .pass_s = 2e-3};
}

}  // namespace krul::testing
