#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "krul/model/layer_ops.hpp"
#include "krul/model/matrix_kernels.hpp"

namespace krul {

/// MatrixKernels in f32 for every processor that Eigen knows.
/// A row's bits may depend on how many rows are multiplied at once, within the rounding of a dot product.
class EigenKernels {
 public:
  class Packed {
   public:
    Packed() = default;
    [[nodiscard]] std::size_t columns() const noexcept { return columns_; }
    [[nodiscard]] std::size_t depth() const noexcept { return depth_; }

   private:
    friend class EigenKernels;
    std::size_t columns_ = 0;
    std::size_t depth_ = 0;
    std::span<float> weights_;  // [whole panels, depth]
  };
  struct Scratch {};

  [[nodiscard]] std::string name() const { return "eigen f32"; }
  [[nodiscard]] Precision precision() const noexcept { return Precision::f32; }
  [[nodiscard]] Scratch make_scratch() const { return {}; }
  [[nodiscard]] std::size_t packed_bytes(const MatrixShape& shape) const {
    return panels_of(shape.columns) * panel_columns * shape.depth * sizeof(float);
  }
  /// @throws PreconditionError if the memory is too small
  [[nodiscard]] Packed make_packed(const MatrixShape& shape, std::span<std::byte> memory) const;
  /// @throws PreconditionError if the weights are no whole columns or lie outside the matrix
  void pack(Packed& packed, std::size_t panel, const WeightRows& weights, Scratch& scratch) const;
  [[nodiscard]] std::size_t row_bytes(std::size_t depth) const { return depth * sizeof(float); }
  /// @throws PreconditionError if the values lie outside the row
  void prepare(const Packed& packed, std::span<const float> values, std::size_t first, std::span<std::byte> row) const;
  [[nodiscard]] std::size_t block_rows() const noexcept { return 128; }
  /// @throws PreconditionError if the panels lie outside the matrix or y is too small
  void multiply(const Packed& packed, PanelRange panels, std::span<const std::byte> rows, std::span<float> y,
                Scratch& scratch) const;

 private:
  LayerOps ops_;
};
static_assert(MatrixKernels<EigenKernels>);

}  // namespace krul
