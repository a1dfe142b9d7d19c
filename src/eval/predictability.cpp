#include "krul/eval/predictability.hpp"

#include <Eigen/Dense>
#include <algorithm>

#include "krul/core/error.hpp"

namespace krul::eval {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Adds half of both directions' unexplained shares for each two of the tensors.
void add_unexplained(std::span<const std::vector<float>> tensors, std::size_t width, double weight,
                     std::vector<double>& sums) {
  const std::size_t layers = tensors.size();
  std::vector<Matrix> centred;
  std::vector<Eigen::LLT<Eigen::MatrixXf>> factors;
  for (const auto& tensor : tensors) {
    const auto rows = static_cast<Eigen::Index>(tensor.size() / width);
    Matrix values = Eigen::Map<const Matrix>(tensor.data(), rows, static_cast<Eigen::Index>(width));
    values.rowwise() -= values.colwise().mean().eval();
    Eigen::MatrixXf covariance = values.transpose() * values;
    // A little of the mean variance keeps directions that never occur from being divided by nothing.
    const float ridge = 1e-4F * covariance.trace() / static_cast<float>(width) + 1e-20F;
    covariance.diagonal().array() += ridge;
    factors.emplace_back(covariance);
    centred.push_back(std::move(values));
  }
  for (std::size_t i = 0; i < layers; ++i) {
    for (std::size_t j = i + 1; j < layers; ++j) {
      const Eigen::MatrixXf cross = centred[i].transpose() * centred[j];  // [width, width]
      const auto unexplained = [&](const auto& factor, const Eigen::MatrixXf& covariance, const Matrix& target) {
        const float total = target.squaredNorm();
        if (total <= 0) return 0.0;
        const float explained = (covariance.array() * factor.solve(covariance).array()).sum();
        return static_cast<double>(std::clamp(1 - explained / total, 0.0F, 1.0F));
      };
      const double share = (unexplained(factors[i], cross, centred[j]) +
                            unexplained(factors[j], Eigen::MatrixXf(cross.transpose()), centred[i])) /
                           2;
      sums[i * layers + j] += weight * share;
      sums[j * layers + i] += weight * share;
    }
  }
}

}  // namespace

std::vector<double> unpredictability(const Geometry& geometry, std::span<const std::vector<float>> keys,
                                     std::span<const std::vector<float>> values) {
  const std::size_t width = geometry.kv_values();
  expects(keys.size() == values.size() && !keys.empty() && width > 0, "unpredictability: K and V of every layer");
  for (std::size_t layer = 0; layer < keys.size(); ++layer)
    expects(keys[layer].size() == keys[0].size() && values[layer].size() == keys[0].size() && !keys[0].empty() &&
                keys[0].size() % width == 0,
            "unpredictability: as many rows of every layer");
  std::vector<double> sums(keys.size() * keys.size(), 0);
  add_unexplained(keys, width, 0.5, sums);
  add_unexplained(values, width, 0.5, sums);
  return sums;
}

}  // namespace krul::eval
