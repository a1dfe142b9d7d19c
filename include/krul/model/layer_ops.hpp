#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "krul/core/element_type.hpp"
#include "krul/core/geometry.hpp"
#include "krul/core/processor.hpp"
#include "krul/core/tokens.hpp"

namespace krul {

namespace detail {
struct LayerKernels;
}

/// What a layer does between its products, on the widest instructions of a processor. Cheap to copy; several threads
/// may call at once. A row's bits do not depend on the rows beside it.
class LayerOps {
 public:
  /// @param processor  what may be used of the one that runs this
  explicit LayerOps(const Processor& processor = Processor::detect());

  [[nodiscard]] InstructionLevel level() const noexcept;  ///< of its loops

  /// out = row * weight / sqrt(mean(row^2) + epsilon); each [n]. `out` may be `row`. Any finite row will do; where one
  /// is not finite, neither is `out`.
  /// @throws PreconditionError if the lengths differ
  void rms_norm(std::span<const float> row, std::span<const float> weight, float epsilon, std::span<float> out) const;

  /// out = silu(gate) * up, with silu(x) = x / (1 + e^-x); each [n]. `out` may be `gate` or `up`.
  /// @throws PreconditionError if the lengths differ
  void swiglu(std::span<const float> gate, std::span<const float> up, std::span<float> out) const;

  /// to += from; each [n].
  /// @throws PreconditionError if the lengths differ
  void add(std::span<float> to, std::span<const float> from) const;

  /// Rounds to `type`, to nearest even, with the same bits as from_float.
  /// @param to  [n] values of `type`, any alignment
  /// @throws PreconditionError if the lengths differ
  void round(ElementType type, std::span<const float> from, std::span<std::byte> to) const;

  /// Turns the leading dimensions of each head.
  /// @param heads   [n, head_dim], changed in place
  /// @param angles  [2, dimensions / 2] of RotaryTable
  /// @throws PreconditionError if the lengths do not fit
  void rotate(const Rotary& rotary, std::span<float> heads, std::size_t head_dim, std::span<const float> angles) const;

 private:
  const detail::LayerKernels* kernels_;
};

/// The angles of the rotary embedding for every position of a context.
///
/// Two short tables of cosines and sines in double, for multiples of 256 and for what is left of a position, are joined
/// by the addition theorem: as exact as a table of all positions in float, and small for any context.
class RotaryTable {
 public:
  RotaryTable() = default;
  /// @param context  positions below this can be asked for
  RotaryTable(const Rotary& rotary, std::size_t context);

  /// Cosines, then sines of one position.
  /// @param out  [2, dimensions / 2]
  /// @throws PreconditionError if the position lies outside the context or out has another length
  void angles(Position position, std::span<float> out) const;

 private:
  struct Turn {
    double cosine, sine;
  };
  static constexpr std::size_t stride = 256;

  Rotary rotary_;
  std::size_t context_ = 0;
  std::vector<Turn> coarse_;  // [ceil(context / stride), dimensions / 2]
  std::vector<Turn> fine_;    // [stride, dimensions / 2]
};

}  // namespace krul
