#include "krul/model/layer_ops.hpp"

#include <cmath>

#include "krul/core/error.hpp"
#include "layer_kernels.hpp"

namespace krul {
namespace {

const detail::LayerKernels& choose(const Processor& processor) {
  using enum InstructionLevel;
  return *at_level<portable, avx2, avx512, neon>(
      processor.level(), []<InstructionLevel level>() { return detail::layer_kernels<level>(); });
}

}  // namespace

LayerOps::LayerOps(const Processor& processor) : kernels_(&choose(processor)) {}

InstructionLevel LayerOps::level() const noexcept {
  return kernels_->level;
}

void LayerOps::rms_norm(std::span<const float> row, std::span<const float> weight, float epsilon,
                        std::span<float> out) const {
  expects(row.size() == weight.size() && row.size() == out.size(), "rms_norm: the lengths differ");
  kernels_->rms_norm(row.data(), weight.data(), row.size(), epsilon, out.data());
}

void LayerOps::swiglu(std::span<const float> gate, std::span<const float> up, std::span<float> out) const {
  expects(gate.size() == up.size() && gate.size() == out.size(), "swiglu: the lengths differ");
  kernels_->swiglu(gate.data(), up.data(), gate.size(), out.data());
}

void LayerOps::add(std::span<float> to, std::span<const float> from) const {
  expects(to.size() == from.size(), "add: the lengths differ");
  kernels_->add(to.data(), from.data(), to.size());
}

void LayerOps::round(ElementType type, std::span<const float> from, std::span<std::byte> to) const {
  expects(to.size() == from.size() * size_of(type), "round: the lengths differ");
  kernels_->round(type, from.data(), from.size(), to.data());
}

void LayerOps::rotate(const Rotary& rotary, std::span<float> heads, std::size_t head_dim,
                      std::span<const float> angles) const {
  expects(head_dim >= rotary.dimensions && head_dim > 0 && heads.size() % head_dim == 0, "rotate: no whole heads");
  const std::size_t pairs = rotary.dimensions / 2;
  expects(angles.size() == 2 * pairs, "rotate: the angles have the wrong length");
  kernels_->rotate(rotary.pairs, {heads.data(), heads.size() / head_dim, head_dim, pairs}, angles.data());
}

RotaryTable::RotaryTable(const Rotary& rotary, std::size_t context) : rotary_(rotary), context_(context) {
  const std::size_t pairs = rotary.dimensions / 2;
  const auto fill = [&](std::vector<Turn>& table, std::size_t positions, std::size_t step) {
    table.resize(positions * pairs);
    for (std::size_t pair = 0; pair < pairs; ++pair) {
      const double frequency =
          std::pow(rotary.base, -2.0 * static_cast<double>(pair) / static_cast<double>(rotary.dimensions));
      for (std::size_t at = 0; at < positions; ++at) {
        const double angle = static_cast<double>(at * step) * frequency;
        table[at * pairs + pair] = {std::cos(angle), std::sin(angle)};
      }
    }
  };
  fill(coarse_, (context + stride - 1) / stride, stride);
  fill(fine_, stride, 1);
}

void RotaryTable::angles(Position position, std::span<float> out) const {
  const std::size_t pairs = rotary_.dimensions / 2;
  expects(position < context_, "RotaryTable: position beyond the context");
  expects(out.size() == 2 * pairs, "RotaryTable: room for the angles has the wrong length");
  const Turn* a = &coarse_[position / stride * pairs];
  const Turn* b = &fine_[position % stride * pairs];
  for (std::size_t i = 0; i < pairs; ++i) {
    out[i] = static_cast<float>(a[i].cosine * b[i].cosine - a[i].sine * b[i].sine);
    out[pairs + i] = static_cast<float>(a[i].sine * b[i].cosine + a[i].cosine * b[i].sine);
  }
}

}  // namespace krul
