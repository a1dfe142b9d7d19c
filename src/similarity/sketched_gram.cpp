#include "krul/similarity/sketched_gram.hpp"

#include <algorithm>

#include "../model/lanes.hpp"
#include "krul/core/error.hpp"
#include "krul/similarity/detail/mix.hpp"

namespace krul {
namespace {

/// to += sign * signs * weights
void add_run(const float* weights, const float* signs, float sign, std::size_t count, float* to) {
  std::size_t k = 0;
  for (; k + lane_count <= count; k += lane_count)
    store(load(to + k) + load(weights + k) * (load(signs + k) * sign), to + k);
  for (; k < count; ++k) to[k] += weights[k] * signs[k] * sign;
}

double squared_distance(const float* a, const float* b, std::size_t count) {
  constexpr std::size_t run = 64 * lane_count;  // summed in f32
  double sum = 0;
  for (std::size_t begin = 0; begin < count; begin += run) {
    const std::size_t end = std::min(count, begin + run);
    Lanes part{};
    std::size_t k = begin;
    for (; k + lane_count <= end; k += lane_count) {
      const Lanes difference = load(a + k) - load(b + k);
      part += difference * difference;
    }
    sum += static_cast<double>(sum_of(part));
    for (; k < end; ++k) sum += static_cast<double>((a[k] - b[k]) * (a[k] - b[k]));
  }
  return sum;
}

}  // namespace

SketchedGram::SketchedGram(const Geometry& geometry, std::size_t buckets, std::uint64_t seed)
    : layers_(geometry.layers), heads_(geometry.query_heads), buckets_(buckets), seed_(seed) {
  expects(layers_ > 0 && heads_ > 0, "SketchedGram: no layers or heads");
  expects(buckets >= 64, "SketchedGram: at least 64 buckets");
  sketches_.resize(layers_ * buckets_);
}

void SketchedGram::add(const AttentionRow& row) {
  expects(row.layer < layers_, "SketchedGram: no such layer");
  while (signs_.size() < row.weights.size()) {
    const std::uint64_t bits = detail::mix(seed_ ^ detail::mix(signs_.size()));
    for (std::size_t bit = 0; bit < 64; ++bit) signs_.push_back(((bits >> bit) & 1U) != 0 ? 1.0F : -1.0F);
  }
  const std::uint64_t random = detail::mix(seed_ + detail::mix(row.query * heads_ + row.head));
  const float sign = (random & 1U) != 0 ? 1.0F : -1.0F;
  std::size_t bucket = static_cast<std::size_t>(random >> 1) % buckets_;
  float* const sketch = &sketches_[row.layer * buckets_];
  for (std::size_t k = 0; k < row.weights.size();) {
    const std::size_t count = std::min(row.weights.size() - k, buckets_ - bucket);
    add_run(&row.weights[k], &signs_[k], sign, count, sketch + bucket);
    k += count;
    bucket = 0;
  }
}

void SketchedGram::collect(std::span<double> squared) {
  expects(squared.size() == layers_ * layers_, "SketchedGram: squared distances of another number of layers");
  for (std::size_t i = 0; i < layers_; ++i)
    for (std::size_t j = i + 1; j < layers_; ++j) {
      const double distance = squared_distance(&sketches_[i * buckets_], &sketches_[j * buckets_], buckets_);
      squared[i * layers_ + j] += distance;
      squared[j * layers_ + i] += distance;
    }
  std::fill(sketches_.begin(), sketches_.end(), 0.0F);
}

}  // namespace krul
