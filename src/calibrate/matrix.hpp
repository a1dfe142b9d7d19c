#pragma once

#include <Eigen/Dense>
#include <span>
#include <vector>

namespace krul {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using MatrixD = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using View = Eigen::Map<const Matrix>;

inline View view(std::span<const float> values, std::size_t rows, std::size_t columns) {
  return {values.data(), static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(columns)};
}
template <class M>
std::vector<float> to_vector(const M& matrix) {
  const Matrix rows = matrix.template cast<float>();
  return {rows.data(), rows.data() + rows.size()};
}

}  // namespace krul
