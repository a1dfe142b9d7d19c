#include "krul/similarity/detail/bin_masses.hpp"

#include <cstring>

#include "../model/lanes.hpp"

namespace krul::detail {
namespace {

constexpr std::size_t bin_keys = AttentionStatistics::bin_keys;

}  // namespace

BinMasses::BinMasses(std::size_t keys, std::vector<float>& room) : partial_(room) {
  partial_.assign((keys + bin_keys - 1) / bin_keys * lane_count, 0.0F);
}

void BinMasses::add(std::span<const float> weights) noexcept {
  float* to = partial_.data();
  std::size_t k = 0;
  for (; k + bin_keys <= weights.size(); k += bin_keys, to += lane_count) {
    Lanes sum = load(&weights[k]);
    for (std::size_t v = lane_count; v < bin_keys; v += lane_count) sum += load(&weights[k + v]);
    store(load(to) + sum, to);
  }
  for (; k + lane_count <= weights.size(); k += lane_count) store(load(to) + load(&weights[k]), to);
  if (k < weights.size()) {
    float part[lane_count] = {};
    std::memcpy(part, &weights[k], (weights.size() - k) * sizeof(float));
    store(load(to) + load(part), to);
  }
}

void BinMasses::add_to(std::span<double> mass, double factor) const noexcept {
  for (std::size_t bin = 0; bin * lane_count < partial_.size(); ++bin)
    mass[bin] += factor * static_cast<double>(sum_of(load(&partial_[bin * lane_count])));
}

}  // namespace krul::detail
