#include "krul/model/krul_kernels.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "krul/core/half.hpp"
#include "krul/model/detail/panels.hpp"
#include "krul/model/layer_ops.hpp"
#include "micro_kernels.hpp"

namespace krul {
namespace {

using detail::FourBitWeights, detail::group_values, detail::strip_columns;

/// Inputs of one step, and bytes that they take in a strip.
struct Step {
  std::size_t inputs, strip_bytes;
};

constexpr Step step_of(Precision precision) {
  if (precision == Precision::f32) return {1, strip_columns * sizeof(float)};
  if (precision == Precision::bf16) return {2, 2 * strip_columns * sizeof(std::uint16_t)};
  return {group_values, group_values * strip_columns};
}

/// How far ahead of their use weights are fetched when they come from memory. The processor's own fetching stops at
/// every page of 4 KiB.
constexpr std::size_t near_bytes = 4096;

const detail::MicroKernels* choose(Precision precision, const Processor& processor) {
  using enum InstructionLevel;
  InstructionLevel level = processor.level();
  if (level == avx512_bf16 && !processor.prefers_bf16()) level = avx512;
  if (precision == Precision::f32)
    return at_level<portable, avx2, avx512, neon>(
        level, []<InstructionLevel chosen>() { return detail::micro_kernels<Precision::f32, chosen>(); });
  if (precision == Precision::bf16)
    return at_level<portable, avx2, avx512, avx512_bf16, neon>(
        level, []<InstructionLevel chosen>() { return detail::micro_kernels<Precision::bf16, chosen>(); });
  return at_level<portable, avx2, avx2_vnni, avx512, neon>(
      level, []<InstructionLevel chosen>() { return detail::micro_kernels<Precision::int8, chosen>(); });
}

/// Without the factor 1 / sqrt(n) that makes it orthogonal.
void hadamard(std::span<float> group) {
  for (std::size_t distance = 1; distance < group.size(); distance *= 2)
    for (std::size_t block = 0; block < group.size(); block += 2 * distance)
      for (std::size_t i = block; i < block + distance; ++i) {
        const float a = group[i], b = group[i + distance];
        group[i] = a + b;
        group[i + distance] = a - b;
      }
}

/// One column of weights of four bits. Codes come back from the values, which were made from them with one rounding.
/// @param blocks  [values / 32]
void pack_four_bits(std::span<const float> values, std::span<const FourBitBlock> blocks, std::size_t column,
                    std::byte* strip) {
  constexpr std::size_t lanes = FourBitWeights::columns / 2;
  const std::size_t part = column % FourBitWeights::columns, lane = part % lanes;
  const int shift = part < lanes ? 0 : 4;
  const std::size_t whole = (values.size() + group_values - 1) / group_values * group_values / four_bit_values;
  auto* to = reinterpret_cast<FourBitWeights*>(strip) + column / FourBitWeights::columns * whole;
  for (std::size_t b = 0; b < blocks.size(); ++b, ++to) {
    const auto [scale, minimum] = blocks[b];
    for (std::size_t k = 0; k < four_bit_values; ++k) {
      const float code = (values[b * four_bit_values + k] - minimum) / scale;
      const float known = code > 0 ? std::min(code, 15.0F) : 0.0F;  // not so if the scale is zero
      to->codes[k / 4][lane][k % 4] |= static_cast<std::uint8_t>(static_cast<int>(known + 0.5F) << shift);
    }
    to->scales[part] = scale;
    to->minima[part] = minimum;
  }
}

}  // namespace

KrulKernels::KrulKernels(Precision precision, const Processor& processor)
    : precision_(precision), micro_(choose(precision, processor)), ops_(processor) {}

Precision KrulKernels::fastest(const Processor& processor) {
  const bool int8 = includes(processor.level(), InstructionLevel::avx2);
  return int8 ? Precision::int8 : Precision::f32;
}

std::string KrulKernels::name() const {
  return "krul " + std::string(krul::name(precision_)) + " " + std::string(krul::name(micro_->level));
}

InstructionLevel KrulKernels::level() const noexcept {
  return micro_->level;
}

double KrulKernels::multiply_registers(std::size_t rounds, WeightForm form) const {
  return (keeps_four_bits(form) ? micro_->four_bits : micro_)->multiply_registers(rounds);
}

bool KrulKernels::keeps_four_bits(WeightForm form) const {
  return form == WeightForm::four_bits && micro_->four_bits != nullptr;
}

const detail::MicroKernels& KrulKernels::loops_for(const Packed& packed) const {
  if (!packed.four_bits_) return *micro_;
  expects(micro_->four_bits != nullptr, "the matrix was packed by kernels of another level");
  return *micro_->four_bits;
}

std::size_t KrulKernels::steps(std::size_t depth) const {
  const std::size_t inputs = step_of(precision_).inputs;
  return (depth + inputs - 1) / inputs;
}

std::size_t KrulKernels::strip_bytes(std::size_t depth, bool four_bits) const {
  if (four_bits)
    return steps(depth) * group_values / four_bit_values * strip_columns / FourBitWeights::columns *
           sizeof(FourBitWeights);
  const std::size_t scales = precision_ == Precision::int8 ? strip_columns * sizeof(float) : 0;
  return steps(depth) * step_of(precision_).strip_bytes + scales;
}

std::size_t KrulKernels::packed_bytes(const MatrixShape& shape) const {
  const std::size_t strips = panels_of(shape.columns) * (panel_columns / strip_columns);
  return strips * strip_bytes(shape.depth, keeps_four_bits(shape.form));
}

KrulKernels::Packed KrulKernels::make_packed(const MatrixShape& shape, std::span<std::byte> memory) const {
  expects(memory.size() >= packed_bytes(shape), "make_packed: the memory is too small");
  expects(reinterpret_cast<std::uintptr_t>(memory.data()) % 64 == 0, "make_packed: the memory is not aligned");
  Packed packed;
  packed.columns_ = shape.columns;
  packed.depth_ = shape.depth;
  packed.four_bits_ = keeps_four_bits(shape.form);
  packed.strips_ = memory.data();
  return packed;
}

void KrulKernels::pack(Packed& packed, std::size_t panel, const WeightRows& weights, Scratch&) const {
  detail::check_pack(packed, panel, weights);
  const std::size_t depth = packed.depth_, bytes = strip_bytes(depth, packed.four_bits_);
  const std::size_t columns = weights.values.size() / depth;
  const std::size_t blocks = packed.four_bits_ ? depth / four_bit_values : 0;
  if (packed.four_bits_)
    expects(depth % four_bit_values == 0 && weights.blocks.size() == columns * blocks,
            "pack: the matrix was said to hold four bits, and the weights have no such blocks");
  std::byte* strip = packed.strips_ + panel * (panel_columns / strip_columns) * bytes;
  std::memset(strip, 0, panels_of(columns) * (panel_columns / strip_columns) * bytes);
  for (std::size_t column = 0; column < columns; ++column, strip += column % strip_columns == 0 ? bytes : 0) {
    const auto values = weights.values.subspan(column * depth, depth);
    if (packed.four_bits_)
      pack_four_bits(values, weights.blocks.subspan(column * blocks, blocks), column % strip_columns, strip);
    else
      pack_column(values, column % strip_columns, strip);
  }
}

void KrulKernels::pack_column(std::span<const float> weights, std::size_t column, std::byte* strip) const {
  const auto put = [strip](std::size_t at, auto value) {
    std::memcpy(strip + at * sizeof value, &value, sizeof value);
  };
  const std::size_t depth = weights.size();
  if (precision_ == Precision::f32) {
    for (std::size_t k = 0; k < depth; ++k) put(k * strip_columns + column, weights[k]);
  } else if (precision_ == Precision::bf16) {
    for (std::size_t k = 0; k < depth; ++k)
      put((k / 2 * strip_columns + column) * 2 + k % 2, bf16_from_float(weights[k]));
  } else {
    std::vector<float> values(steps(depth) * group_values);
    std::copy(weights.begin(), weights.end(), values.begin());
    float most = 0;
    for (std::size_t k = 0; k < values.size(); k += group_values) hadamard(std::span(values).subspan(k, group_values));
    for (const float value : values) most = std::max(most, std::fabs(value));
    const float inverse = most > detail::smallest_scaled ? 127.0F / most : 0.0F;
    // Four inputs of a column lie together. Adding one half more than the offset rounds to the nearest.
    for (std::size_t k = 0; k < values.size(); k += 4) {
      std::array<std::uint8_t, 4> quad;
      for (std::size_t i = 0; i < 4; ++i)
        quad[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>(values[k + i] * inverse + 128.5F));
      put(k / 4 * strip_columns + column, quad);
    }
    // Both transforms leave out a factor of 1 / sqrt(64).
    const float scale = most / (127.0F * group_values);
    std::memcpy(strip + values.size() * strip_columns + column * sizeof scale, &scale, sizeof scale);
  }
}

std::size_t KrulKernels::row_bytes(std::size_t depth) const {
  return steps(depth) * micro_->step_bytes;
}

void KrulKernels::prepare(const Packed& packed, std::span<const float> values, std::size_t first,
                          std::span<std::byte> row) const {
  if (micro_->widens) {
    expects((first + values.size()) * sizeof(float) <= row.size(), "prepare: the values lie outside the row");
    auto* const to = reinterpret_cast<float*>(row.data()) + first;
    for (std::size_t k = 0; k < values.size(); ++k) to[k] = float_from_bf16(bf16_from_float(values[k]));
    if ((first + values.size()) % 2 != 0) to[values.size()] = 0;  // the last pair is filled up
    return;
  }
  if (precision_ != Precision::int8) {
    detail::prepare_plain(ops_, precision_ == Precision::f32 ? ElementType::f32 : ElementType::bf16, values, first,
                          row);
    if (precision_ == Precision::bf16 && (first + values.size()) % 2 != 0)  // the last pair is filled up
      std::memset(row.data() + (first + values.size()) * 2, 0, 2);
    return;
  }
  const detail::MicroKernels& loops = loops_for(packed);
  const std::size_t groups = (values.size() + group_values - 1) / group_values;
  expects(first % group_values == 0, "prepare: the values do not begin where a group does");
  expects((first / group_values + groups) * micro_->step_bytes <= row.size(),
          "prepare: the values lie outside the row");
  std::byte* group = row.data() + first / group_values * loops.step_bytes;
  for (std::size_t k = 0; k < values.size(); k += group_values, group += loops.step_bytes) {
    if (values.size() - k >= group_values) {
      loops.quantise(&values[k], group);
    } else {
      std::array<float, group_values> last{};
      std::copy(values.begin() + static_cast<std::ptrdiff_t>(k), values.end(), last.begin());
      loops.quantise(last.data(), group);
    }
  }
}

void KrulKernels::multiply(const Packed& packed, PanelRange panels, std::span<const std::byte> rows, std::span<float> y,
                           Scratch&) const {
  const std::size_t one_row = row_bytes(packed.depth_);
  const std::size_t count = detail::check_multiply(packed, panels, one_row, rows.size(), y.size());
  const detail::MicroKernels& loops = loops_for(packed);
  const std::size_t tiles = (count + loops.rows - 1) / loops.rows;
  const std::size_t bytes = strip_bytes(packed.depth_, packed.four_bits_);
  const std::size_t line = packed.four_bits_ ? 64 : 128;
  constexpr std::size_t strips = panel_columns / strip_columns;
  detail::StripProduct product{.rows = nullptr,
                               .row_bytes = one_row,
                               .count = 0,
                               .strip = packed.strips_ + panels.begin * strips * bytes,
                               .steps = steps(packed.depth_),
                               .y = nullptr,
                               .stride = panels.size() * panel_columns,
                               .next = nullptr,
                               .next_step = 0};
  for (std::size_t strip = 0; strip < panels.size() * strips; ++strip, product.strip += bytes)
    for (std::size_t tile = 0; tile < tiles; ++tile) {
      const std::size_t begin = count * tile / tiles, end = count * (tile + 1) / tiles;
      product.rows = rows.data() + begin * one_row;
      product.count = end - begin;
      product.y = y.data() + begin * product.stride + strip * strip_columns;
      if (tiles == 1) {
        product.next = product.strip + near_bytes;
        product.next_step = line;
      } else {
        product.next = product.strip + bytes + bytes * tile / tiles;
        product.next_step = line / tiles;
      }
      loops.multiply(product);
    }
}

}  // namespace krul
