#include "krul/similarity/detail/bin_masses.hpp"

#include <numeric>

#include "krul/core/processor.hpp"
#include "similarity_loops.hpp"

namespace krul::detail {

BinMasses::BinMasses(std::size_t keys, std::vector<float>& room) : partial_(room) {
  constexpr std::size_t bin_keys = AttentionStatistics::bin_keys;
  partial_.assign((keys + bin_keys - 1) / bin_keys * bin_lanes, 0.0F);
}

void BinMasses::add(std::span<const float> weights) {
  similarity_loops(instruction_level()).add_to_bins(weights.data(), weights.size(), partial_.data());
}

void BinMasses::add_to(std::span<double> mass, double factor) const {
  for (std::size_t bin = 0; bin * bin_lanes < partial_.size(); ++bin) {
    const auto lanes = std::span<const float>(partial_).subspan(bin * bin_lanes, bin_lanes);
    mass[bin] += factor * static_cast<double>(std::accumulate(lanes.begin(), lanes.end(), 0.0F));
  }
}

}  // namespace krul::detail
