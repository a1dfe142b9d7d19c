#include "krul/similarity/sketched_gram.hpp"

#include <algorithm>

#include "krul/core/error.hpp"
#include "krul/core/processor.hpp"
#include "krul/similarity/detail/mix.hpp"
#include "similarity_loops.hpp"

namespace krul {
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
  const auto& loops = detail::similarity_loops(instruction_level());
  float* const sketch = &sketches_[row.layer * buckets_];
  for (std::size_t k = 0; k < row.weights.size();) {
    const std::size_t count = std::min(row.weights.size() - k, buckets_ - bucket);
    loops.add_signed(&row.weights[k], &signs_[k], sign, count, sketch + bucket);
    k += count;
    bucket = 0;
  }
}

void SketchedGram::collect(std::span<double> squared) {
  expects(squared.size() == layers_ * layers_, "SketchedGram: squared distances of another number of layers");
  const auto& loops = detail::similarity_loops(instruction_level());
  for (std::size_t i = 0; i < layers_; ++i)
    for (std::size_t j = i + 1; j < layers_; ++j) {
      const double distance = loops.squared_distance(&sketches_[i * buckets_], &sketches_[j * buckets_], buckets_);
      squared[i * layers_ + j] += distance;
      squared[j * layers_ + i] += distance;
    }
  std::fill(sketches_.begin(), sketches_.end(), 0.0F);
}

}  // namespace krul
