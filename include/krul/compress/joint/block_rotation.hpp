#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "krul/core/geometry.hpp"
#include "krul/core/tokens.hpp"

namespace krul::detail {

/// The rotary embedding of the tokens of a block, and its inverse.
class BlockRotation {
 public:
  BlockRotation(const Rotary& rotary, Position first, std::size_t tokens)
      : rotary_(rotary), half_(rotary.dimensions / 2), cosines_(tokens * half_), sines_(tokens * half_) {
    for (std::size_t pair = 0; pair < half_; ++pair) {
      const double speed =
          std::pow(rotary.base, -2.0 * static_cast<double>(pair) / static_cast<double>(rotary.dimensions));
      const double turn_cosine = std::cos(speed), turn_sine = std::sin(speed);
      double cosine = std::cos(speed * static_cast<double>(first)), sine = std::sin(speed * static_cast<double>(first));
      for (std::size_t token = 0; token < tokens; ++token) {
        cosines_[token * half_ + pair] = static_cast<float>(cosine);
        sines_[token * half_ + pair] = static_cast<float>(sine);
        const double next = cosine * turn_cosine - sine * turn_sine;
        sine = sine * turn_cosine + cosine * turn_sine;
        cosine = next;
      }
    }
  }

  /// Turns the heads of one token, [G, D] in place.
  void turn(std::size_t token, std::span<float> heads, std::size_t head_dim) const {
    apply<false>(token, heads, head_dim);
  }
  void turn_back(std::size_t token, std::span<float> heads, std::size_t head_dim) const {
    apply<true>(token, heads, head_dim);
  }

 private:
  template <bool Back>
  void apply(std::size_t token, std::span<float> heads, std::size_t head_dim) const {
    const float* cosines = cosines_.data() + token * half_;
    const float* sines = sines_.data() + token * half_;
    const bool interleaved = rotary_.pairs == RotaryPairs::interleaved;
    for (float* head = heads.data(); head < heads.data() + heads.size(); head += head_dim)
      interleaved ? turn_pairs<Back, 2>(head, head + 1, cosines, sines)
                  : turn_pairs<Back, 1>(head, head + half_, cosines, sines);
  }

  /// a and b share no element: without that promise nothing of this is done for several pairs at once.
  template <bool Back, std::size_t Step>
  void turn_pairs(float* __restrict a, float* __restrict b, const float* __restrict cosines,
                  const float* __restrict sines) const {
    for (std::size_t pair = 0; pair < half_; ++pair) {
      float& x = a[pair * Step];
      float& y = b[pair * Step];
      const float sine = Back ? -sines[pair] : sines[pair];
      const float turned = x * cosines[pair] - y * sine;
      y = y * cosines[pair] + x * sine;
      x = turned;
    }
  }

  Rotary rotary_;
  std::size_t half_;
  std::vector<float> cosines_, sines_;  // [T, dimensions / 2]
};

}  // namespace krul::detail
