#pragma once

#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include "krul/model/eigen_kernels.hpp"
#include "krul/model/krul_kernels.hpp"
#include "krul/model/onednn_kernels.hpp"

namespace krul {

/// MatrixKernels that are chosen when the program runs. One branch a call; the products are the chosen kernels' own.
class AnyKernels {
 public:
  class Packed {
   public:
    Packed() = default;
    [[nodiscard]] std::size_t columns() const noexcept {
      return std::visit([](const auto& packed) { return packed.columns(); }, packed_);
    }
    [[nodiscard]] std::size_t depth() const noexcept {
      return std::visit([](const auto& packed) { return packed.depth(); }, packed_);
    }

   private:
    friend class AnyKernels;
    template <class P>
    explicit Packed(P packed) : packed_(std::move(packed)) {}
    std::variant<EigenKernels::Packed, OnednnKernels::Packed, KrulKernels::Packed> packed_;
  };

  class Scratch {
   private:
    friend class AnyKernels;
    template <class S>
    explicit Scratch(S scratch) : scratch_(std::move(scratch)) {}
    std::variant<EigenKernels::Scratch, OnednnKernels::Scratch, KrulKernels::Scratch> scratch_;
  };

  AnyKernels(EigenKernels kernels) : kernels_(std::move(kernels)) {}
  AnyKernels(OnednnKernels kernels) : kernels_(std::move(kernels)) {}
  AnyKernels(KrulKernels kernels) : kernels_(kernels) {}

  /// The kernels that were asked for, those of krul where that is open. Fails with unsupported, naming what is
  /// available.
  /// @param precision  none: the fastest of those for which the processor has instructions; all of them keep close to
  ///                   f32 (docs/roofline.md says how close)
  [[nodiscard]] static Result<AnyKernels> choose(KernelChoice choice, std::optional<Precision> precision);

  [[nodiscard]] std::string name() const {
    return std::visit([](const auto& kernels) { return kernels.name(); }, kernels_);
  }
  [[nodiscard]] Precision precision() const noexcept {
    return std::visit([](const auto& kernels) { return kernels.precision(); }, kernels_);
  }
  [[nodiscard]] std::size_t block_rows() const noexcept {
    return std::visit([](const auto& kernels) { return kernels.block_rows(); }, kernels_);
  }
  [[nodiscard]] std::size_t row_bytes(std::size_t depth) const {
    return std::visit([&](const auto& kernels) { return kernels.row_bytes(depth); }, kernels_);
  }
  /// @throws PreconditionError as the chosen kernels; std::bad_variant_access if the matrix is of other kernels
  void prepare(const Packed& packed, std::span<const float> values, std::size_t first, std::span<std::byte> row) const {
    std::visit(
        [&](const auto& kernels) {
          using Own = typename std::remove_cvref_t<decltype(kernels)>::Packed;
          kernels.prepare(std::get<Own>(packed.packed_), values, first, row);
        },
        kernels_);
  }
  [[nodiscard]] Scratch make_scratch() const {
    return std::visit([](const auto& kernels) { return Scratch(kernels.make_scratch()); }, kernels_);
  }
  [[nodiscard]] std::size_t packed_bytes(const MatrixShape& shape) const {
    return std::visit([&](const auto& kernels) { return kernels.packed_bytes(shape); }, kernels_);
  }
  [[nodiscard]] Packed make_packed(const MatrixShape& shape, std::span<std::byte> memory) const {
    return std::visit([&](const auto& kernels) { return Packed(kernels.make_packed(shape, memory)); }, kernels_);
  }
  /// @throws PreconditionError as the chosen kernels; std::bad_variant_access if the parts come from other kernels
  void pack(Packed& packed, std::size_t panel, const WeightRows& weights, Scratch& scratch) const {
    visit([&](const auto& kernels, auto& own, auto& own_scratch) { kernels.pack(own, panel, weights, own_scratch); },
          packed, scratch);
  }
  /// @throws PreconditionError as the chosen kernels; std::bad_variant_access if the parts come from other kernels
  void multiply(const Packed& packed, PanelRange panels, std::span<const std::byte> rows, std::span<float> y,
                Scratch& scratch) const {
    visit([&](const auto& kernels, const auto& own,
              auto& own_scratch) { kernels.multiply(own, panels, rows, y, own_scratch); },
          packed, scratch);
  }

 private:
  template <class Call, class P>
  void visit(Call&& call, P& packed, Scratch& scratch) const {
    std::visit(
        [&](const auto& kernels) {
          using Kernels = std::remove_cvref_t<decltype(kernels)>;
          call(kernels, std::get<typename Kernels::Packed>(packed.packed_),
               std::get<typename Kernels::Scratch>(scratch.scratch_));
        },
        kernels_);
  }

  std::variant<EigenKernels, OnednnKernels, KrulKernels> kernels_;
};
static_assert(MatrixKernels<AnyKernels>);

}  // namespace krul
