#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "krul/core/error.hpp"
#include "krul/core/processor.hpp"
#include "krul/model/layer_ops.hpp"
#include "krul/model/matrix_kernels.hpp"
#include "krul/model/precision.hpp"

namespace krul {

namespace detail {
struct MicroKernels;
}

/// MatrixKernels of krul's own: f32, bf16 and int8 at every instruction level. Products of bf16 are those of f32 on
/// factors that were rounded where the processor is faster at that (Processor::prefers_bf16).
///
/// In int8 the inputs are cut into groups of 64. A Hadamard transform mixes each group, of weights when they are packed
/// and of activations before they are rounded: products stay what they were, as the transform is orthogonal, and single
/// large values, which would make the steps of all others coarse, are spread over the group. Then each group of a row
/// of activations has a scale of its own, and each column of weights has one. Level avx2 has no dot products of such
/// bytes and multiplies words, so activations are rounded to 16 bits there.
///
/// At level avx2 weights that a file holds in four bits keep their codes: nothing of them is rounded, and their
/// products with activations of 8 bits, which have a scale for every 32 inputs, take half the instructions of words.
///
/// Each sum has one order, so a row's bits do not depend on the rows and columns beside it.
/// @source the transform: Ashkboos et al., QuaRot (arXiv:2404.00456), second-hand; there it is folded into the model
class KrulKernels {
 public:
  class Packed {
   public:
    Packed() = default;
    [[nodiscard]] std::size_t columns() const noexcept { return columns_; }
    [[nodiscard]] std::size_t depth() const noexcept { return depth_; }

   private:
    friend class KrulKernels;
    std::size_t columns_ = 0;
    std::size_t depth_ = 0;
    bool four_bits_ = false;
    std::byte* strips_ = nullptr;  // whole panels of two strips each
  };
  struct Scratch {};

  /// @param processor  what may be used of the one that runs this
  explicit KrulKernels(Precision precision, const Processor& processor = Processor::detect());
  /// The precision in which products are fastest on a processor.
  [[nodiscard]] static Precision fastest(const Processor& processor = Processor::detect());

  [[nodiscard]] std::string name() const;                 ///< "krul int8 avx512"
  [[nodiscard]] InstructionLevel level() const noexcept;  ///< of its loops
  [[nodiscard]] Precision precision() const noexcept { return precision_; }
  [[nodiscard]] Scratch make_scratch() const { return {}; }
  [[nodiscard]] std::size_t packed_bytes(const MatrixShape& shape) const;
  /// @throws PreconditionError if the memory is too small or not aligned to 64 bytes
  [[nodiscard]] Packed make_packed(const MatrixShape& shape, std::span<std::byte> memory) const;
  /// @throws PreconditionError if the weights are no whole columns or lie outside the matrix, or if codes are kept and
  /// the blocks do not fit the values
  void pack(Packed& packed, std::size_t panel, const WeightRows& weights, Scratch& scratch) const;
  [[nodiscard]] std::size_t row_bytes(std::size_t depth) const;
  /// @post the row serves matrices of the same depth and form
  /// @throws PreconditionError if the values lie outside the row, or do not begin where a group does, or if the matrix
  /// was packed at another level
  void prepare(const Packed& packed, std::span<const float> values, std::size_t first, std::span<std::byte> row) const;
  /// @throws PreconditionError if the panels lie outside the matrix or y is too small
  void multiply(const Packed& packed, PanelRange panels, std::span<const std::byte> rows, std::span<float> y,
                Scratch& scratch) const;
  [[nodiscard]] std::size_t block_rows() const noexcept { return 12; }
  /// Runs the instructions that multiply `rounds` times on registers alone, to find how fast they can be.
  /// @return how many multiplications and additions that was
  double multiply_registers(std::size_t rounds, WeightForm form = WeightForm::any) const;

 private:
  [[nodiscard]] bool keeps_four_bits(WeightForm form) const;
  [[nodiscard]] const detail::MicroKernels& loops_for(const Packed& packed) const;
  [[nodiscard]] std::size_t steps(std::size_t depth) const;
  [[nodiscard]] std::size_t strip_bytes(std::size_t depth, bool four_bits) const;
  void pack_column(std::span<const float> weights, std::size_t column, std::byte* strip) const;

  Precision precision_;
  const detail::MicroKernels* micro_;
  LayerOps ops_;
};
static_assert(MatrixKernels<KrulKernels>);

}  // namespace krul
