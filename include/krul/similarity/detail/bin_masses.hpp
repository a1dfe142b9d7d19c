#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "krul/similarity/attention_statistics.hpp"

namespace krul::detail {

/// Sums attention rows into bins of AttentionStatistics::bin_keys keys, in f32 for one block of one layer: n rows lose
/// at most n 2^-24 of a mass.
class BinMasses {
 public:
  /// @param room  lent for the object's life, so that it is allocated once
  BinMasses(std::size_t keys, std::vector<float>& room);

  /// @param weights  [n], n <= keys
  void add(std::span<const float> weights);
  /// Adds `factor` times the sums.
  /// @param mass  [bins]
  void add_to(std::span<double> mass, double factor) const;

 private:
  std::vector<float>& partial_;  // [bins, lanes]
};

}  // namespace krul::detail
