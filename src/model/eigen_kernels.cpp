// Threads belong to krul::Workers alone.
#define EIGEN_DONT_PARALLELIZE
#include "krul/model/eigen_kernels.hpp"

#include <Eigen/Core>
#include <cstring>

#include "krul/core/error.hpp"
#include "krul/model/detail/panels.hpp"

namespace krul {

EigenKernels::Packed EigenKernels::make_packed(const MatrixShape& shape, std::span<std::byte> memory) const {
  const std::size_t bytes = packed_bytes(shape);
  expects(memory.size() >= bytes, "make_packed: the memory is too small");
  Packed packed;
  packed.columns_ = shape.columns;
  packed.depth_ = shape.depth;
  packed.weights_ = {reinterpret_cast<float*>(memory.data()), bytes / sizeof(float)};
  return packed;
}

void EigenKernels::pack(Packed& packed, std::size_t panel, const WeightRows& weights, Scratch&) const {
  detail::check_pack(packed, panel, weights);
  const auto values = packed.weights_;
  const std::size_t begin = panel * panel_columns * packed.depth_;
  std::memcpy(&values[begin], weights.values.data(), weights.values.size_bytes());
  const std::size_t end = begin + weights.values.size();
  const std::size_t panel_values = panel_columns * packed.depth_;
  std::memset(values.data() + end, 0, ((end + panel_values - 1) / panel_values * panel_values - end) * sizeof(float));
}

void EigenKernels::prepare(const Packed&, std::span<const float> values, std::size_t first,
                           std::span<std::byte> row) const {
  detail::prepare_plain(ops_, ElementType::f32, values, first, row);
}

void EigenKernels::multiply(const Packed& packed, PanelRange panels, std::span<const std::byte> rows,
                            std::span<float> y, Scratch&) const {
  const std::size_t count = detail::check_multiply(packed, panels, row_bytes(packed.depth_), rows.size(), y.size());
  using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const auto depth = static_cast<Eigen::Index>(packed.depth_);
  const auto width = static_cast<Eigen::Index>(panels.size() * panel_columns);
  const auto height = static_cast<Eigen::Index>(count);
  const Eigen::Map<const Rows> x(reinterpret_cast<const float*>(rows.data()), height, depth);
  const Eigen::Map<const Rows> w(&packed.weights_[panels.begin * panel_columns * packed.depth_], width, depth);
  Eigen::Map<Rows> product(y.data(), height, width);
  product.noalias() = x * w.transpose();
}

}  // namespace krul
