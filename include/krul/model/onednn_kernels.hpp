#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "krul/core/element_type.hpp"
#include "krul/core/error.hpp"
#include "krul/model/matrix_kernels.hpp"
#include "krul/model/precision.hpp"

namespace krul {

/// MatrixKernels on oneDNN's matmul: f32, or bf16 products summed in f32. Part of krul::onednn, which is always there:
/// built without oneDNN, make says so.
///
/// Rows are cut into tiles of a few fixed heights, so that a handful of primitives serves each depth; all are made by
/// make_packed and none during a pass. oneDNN's own threads are never used.
/// On processors with AVX-512 a row's bits do not depend on the rows beside it (checked by the tests).
class OnednnKernels {
 public:
  struct Primitives;  ///< all primitives for one depth

  class Packed {
   public:
    Packed() = default;
    [[nodiscard]] std::size_t columns() const noexcept { return columns_; }
    [[nodiscard]] std::size_t depth() const noexcept { return depth_; }

   private:
    friend class OnednnKernels;
    std::size_t columns_ = 0;
    std::size_t depth_ = 0;
    std::shared_ptr<const Primitives> primitives_;
    std::byte* weights_ = nullptr;  // whole panels, each in the primitives' layout
  };

  /// A stream and, for each depth, the memory objects of the thread that uses it.
  class Scratch {
   public:
    Scratch();
    Scratch(Scratch&&) noexcept;
    Scratch& operator=(Scratch&&) noexcept;
    ~Scratch();

   private:
    friend class OnednnKernels;
    struct State;
    std::unique_ptr<State> state_;
  };

  /// Fails with unsupported if oneDNN was not compiled in, or if `precision` is int8, or bf16 and the processor
  /// cannot multiply bf16.
  [[nodiscard]] static Result<OnednnKernels> make(Precision precision);

  [[nodiscard]] std::string name() const { return "onednn " + std::string(krul::name(precision_)); }
  [[nodiscard]] Precision precision() const noexcept { return precision_; }
  [[nodiscard]] Scratch make_scratch() const;
  /// Both also make the primitives for this depth, once. May be called from several threads.
  /// @throws std::bad_alloc, std::runtime_error if oneDNN refuses the shape; PreconditionError if the memory is
  ///         too small
  /// @{
  [[nodiscard]] std::size_t packed_bytes(const MatrixShape& shape) const;
  [[nodiscard]] Packed make_packed(const MatrixShape& shape, std::span<std::byte> memory) const;
  /// @}
  /// @throws PreconditionError if the weights are no whole columns or lie outside the matrix
  void pack(Packed& packed, std::size_t panel, const WeightRows& weights, Scratch& scratch) const;
  [[nodiscard]] std::size_t row_bytes(std::size_t depth) const { return depth * size_of(input_type()); }
  /// @throws PreconditionError if the values lie outside the row
  void prepare(const Packed& packed, std::span<const float> values, std::size_t first, std::span<std::byte> row) const;
  [[nodiscard]] std::size_t block_rows() const noexcept { return 128; }
  /// @throws PreconditionError if the panels lie outside the matrix or y is too small
  void multiply(const Packed& packed, PanelRange panels, std::span<const std::byte> rows, std::span<float> y,
                Scratch& scratch) const;

 private:
  struct Shared;
  [[nodiscard]] ElementType input_type() const noexcept {
    return precision_ == Precision::bf16 ? ElementType::bf16 : ElementType::f32;
  }
  OnednnKernels(Precision precision, std::shared_ptr<Shared> shared)
      : precision_(precision), shared_(std::move(shared)) {}

  Precision precision_ = Precision::f32;
  std::shared_ptr<Shared> shared_;
};
static_assert(MatrixKernels<OnednnKernels>);

}  // namespace krul
