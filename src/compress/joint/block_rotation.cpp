#include "krul/compress/joint/block_rotation.hpp"

#include "joint_loops.hpp"
#include "krul/core/processor.hpp"
#include "same_everywhere.hpp"

namespace krul::detail {

BlockRotation::BlockRotation(const Rotary& rotary, Position first, std::size_t tokens)
    : rotary_(rotary), half_(rotary.dimensions / 2), cosines_(tokens * half_), sines_(tokens * half_) {
  const double log_base = same_log(rotary.base);
  for (std::size_t pair = 0; pair < half_; ++pair) {
    const double share = -2.0 * static_cast<double>(pair) / static_cast<double>(rotary.dimensions);
    const double speed = same_exp(share * log_base);
    const Turn step = same_turn(speed);
    Turn at = same_turn(speed * static_cast<double>(first));
    for (std::size_t token = 0; token < tokens; ++token) {
      cosines_[token * half_ + pair] = static_cast<float>(at.cosine);
      sines_[token * half_ + pair] = static_cast<float>(at.sine);
      at = {at.cosine * step.cosine - at.sine * step.sine, at.sine * step.cosine + at.cosine * step.sine};
    }
  }
}

void BlockRotation::turn(std::size_t token, std::span<float> heads, std::size_t head_dim) const {
  apply(token, heads, head_dim, false);
}

void BlockRotation::turn_back(std::size_t token, std::span<float> heads, std::size_t head_dim) const {
  apply(token, heads, head_dim, true);
}

void BlockRotation::apply(std::size_t token, std::span<float> heads, std::size_t head_dim, bool back) const {
  joint_loops(instruction_level())
      .turn({.values = heads.data(),
             .count = heads.size() / head_dim,
             .dim = head_dim,
             .pairs = half_,
             .interleaved = rotary_.pairs == RotaryPairs::interleaved,
             .cosines = cosines_.data() + token * half_,
             .sines = sines_.data() + token * half_},
            back);
}

}  // namespace krul::detail
