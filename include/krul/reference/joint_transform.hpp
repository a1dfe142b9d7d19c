#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "krul/compress/joint/profile.hpp"
#include "krul/core/half.hpp"

namespace krul::reference {

/// Twin of what a profile does to one token, in double and from the stored parts alone.
class TransformTwin {
 public:
  /// @param head_dim  D
  TransformTwin(const TensorTransform& tensor, std::size_t head_dim, std::size_t features)
      : tensor_(tensor), head_dim_(head_dim), features_(features), width_(tensor.mean.size()) {
    const std::size_t triangle = head_dim * (head_dim + 1) / 2;
    for (std::size_t head = 0; head < tensor.weight_scales.size(); ++head)
      for (std::size_t row = 0; row < head_dim; ++row)
        for (std::size_t column = 0; column < head_dim; ++column) {
          const std::size_t low = std::min(row, column), high = std::max(row, column);
          weights_.push_back(double{tensor.weight_scales[head]} *
                             float_from_f16(tensor.weights[head * triangle + high * (high + 1) / 2 + low]));
        }
  }

  /// Q [column, i]
  [[nodiscard]] double basis(std::size_t column, std::size_t i) const {
    const std::size_t wide = tensor_.wide_basis.size() / width_;
    if (column < wide) return float_from_bf16(tensor_.wide_basis[column * width_ + i]);
    return double{tensor_.narrow_scales[column - wide]} * tensor_.narrow_basis[(column - wide) * width_ + i];
  }

  /// R f of one column.
  [[nodiscard]] double predicted(std::size_t column, std::span<const float> features) const {
    double sum = 0;
    for (std::size_t i = 0; i < features_; ++i)
      sum += double{tensor_.prediction_scales[column]} * tensor_.prediction[column * features_ + i] * features[i];
    return sum;
  }

  /// W v, or W^-1 v, head by head.
  [[nodiscard]] std::vector<double> weighted(std::span<const double> v) const {
    std::vector<double> result(width_);
    for (std::size_t i = 0; i < width_; ++i)
      for (std::size_t k = 0; k < head_dim_; ++k)
        result[i] += weights_[i * head_dim_ + k] * v[i / head_dim_ * head_dim_ + k];
    return result;
  }
  [[nodiscard]] std::vector<double> unweighted(std::span<const double> v) const {
    std::vector<double> result(v.begin(), v.end());
    for (std::size_t head = 0; head < width_ / head_dim_; ++head) {
      std::vector<double> a(weights_.begin() + static_cast<std::ptrdiff_t>(head * head_dim_ * head_dim_),
                            weights_.begin() + static_cast<std::ptrdiff_t>((head + 1) * head_dim_ * head_dim_));
      double* x = &result[head * head_dim_];
      for (std::size_t k = 0; k < head_dim_; ++k)  // W is positive definite: no pivots
        for (std::size_t i = k + 1; i < head_dim_; ++i) {
          const double factor = a[i * head_dim_ + k] / a[k * head_dim_ + k];
          for (std::size_t j = k; j < head_dim_; ++j) a[i * head_dim_ + j] -= factor * a[k * head_dim_ + j];
          x[i] -= factor * x[k];
        }
      for (std::size_t i = head_dim_; i-- > 0;) {
        for (std::size_t j = i + 1; j < head_dim_; ++j) x[i] -= a[i * head_dim_ + j] * x[j];
        x[i] /= a[i * head_dim_ + i];
      }
    }
    return result;
  }

  /// y [n] of one token's values [n], keys with the rotary embedding undone.
  [[nodiscard]] std::vector<double> centred(std::span<const double> values) const {
    std::vector<double> difference(width_);
    for (std::size_t i = 0; i < width_; ++i) difference[i] = values[i] - tensor_.mean[i];
    return weighted(difference);
  }
  /// One column's c.
  [[nodiscard]] double coefficient(std::size_t column, std::span<const double> y,
                                   std::span<const float> features) const {
    double sum = -predicted(column, features);
    for (std::size_t i = 0; i < width_; ++i) sum += basis(column, i) * y[i];
    return sum;
  }
  /// Takes a coded value of a wide column, with its prediction, off y.
  void take_off(std::size_t column, double value, std::span<double> y) const {
    for (std::size_t i = 0; i < width_; ++i) y[i] -= basis(column, i) * value;
  }

  /// x' [n] of coefficients as they were coded, [C].
  [[nodiscard]] std::vector<double> values(std::span<const double> coded, std::span<const float> features) const {
    std::vector<double> y(width_);
    for (std::size_t column = 0; column < coded.size(); ++column)
      for (std::size_t i = 0; i < width_; ++i) y[i] += basis(column, i) * (coded[column] + predicted(column, features));
    auto x = unweighted(y);
    for (std::size_t i = 0; i < width_; ++i) x[i] += tensor_.mean[i];
    return x;
  }

 private:
  const TensorTransform& tensor_;
  std::size_t head_dim_, features_, width_;
  std::vector<double> weights_;  ///< [layers * G, D, D]
};

}  // namespace krul::reference
