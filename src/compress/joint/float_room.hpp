#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "krul/core/error.hpp"

namespace krul::detail {

/// Room for floats, taken from the system in one piece: large vectors of their own would be handed back after each
/// chunk, and come as pages that must be cleared first.
class FloatRoom {
 public:
  explicit FloatRoom(std::size_t count) : values_(new float[count]), left_(values_.get(), count) {}

  /// The next `count` of them, with no values yet.
  [[nodiscard]] std::span<float> take(std::size_t count) {
    expects(count <= left_.size(), "FloatRoom: too small");
    const auto taken = left_.first(count);
    left_ = left_.subspan(count);
    return taken;
  }

 private:
  std::unique_ptr<float[]> values_;
  std::span<float> left_;
};

}  // namespace krul::detail
