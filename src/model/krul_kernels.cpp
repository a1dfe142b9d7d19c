#include "krul/model/krul_kernels.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "krul/core/half.hpp"
#include "krul/model/detail/panels.hpp"
#include "krul/model/layer_ops.hpp"
#include "krul/model/processor.hpp"
#include "micro_kernels.hpp"

namespace krul {
namespace {

using detail::group_values, detail::strip_columns;

/// Inputs of one step, and bytes that they take in a row and in a strip.
struct Step {
  std::size_t inputs, row_bytes, strip_bytes;
};

constexpr Step step_of(Precision precision) {
  if (precision == Precision::f32) return {1, sizeof(float), strip_columns * sizeof(float)};
  if (precision == Precision::bf16) return {2, 2 * sizeof(std::uint16_t), 2 * strip_columns * sizeof(std::uint16_t)};
  return {group_values, sizeof(detail::Int8Group), group_values * strip_columns};
}

/// How far ahead of their use weights are fetched when they come from memory. The processor's own fetching stops at
/// every page of 4 KiB.
constexpr std::size_t near_bytes = 4096;

bool has(const Processor& processor, Precision precision) {
  return precision == Precision::f32    ? processor.avx512
         : precision == Precision::bf16 ? processor.avx512_bf16
                                        : processor.avx512_vnni;
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

}  // namespace

Result<KrulKernels> KrulKernels::make(Precision precision, Instructions wanted, const Processor& processor) {
  const bool any = wanted == Instructions::best;
  const detail::MicroKernels* micro = nullptr;
  if ((any || wanted == Instructions::avx512) && has(processor, precision))
    micro = precision == Precision::bf16 && !processor.prefers_bf16() ? detail::avx512_widening_micro_kernels()
                                                                      : detail::avx512_micro_kernels(precision);
  if ((any || wanted == Instructions::avx2) && micro == nullptr && processor.avx2)
    micro = detail::avx2_micro_kernels(precision);
  if ((any || wanted == Instructions::portable) && micro == nullptr) micro = detail::portable_micro_kernels(precision);
  if (micro == nullptr)
    return fail(ErrorCode::unsupported, "krul's kernels for " + std::string(krul::name(precision)) +
                                            " find no such instructions here: ask for the best there are");
  return KrulKernels(precision, *micro, LayerOps(processor));
}

bool KrulKernels::accelerates(Precision precision) {
  return has(Processor::detect(), precision) && detail::avx512_micro_kernels(precision) != nullptr;
}

std::string KrulKernels::name() const {
  return "krul " + std::string(krul::name(precision_)) + " " + micro_->instructions;
}

double KrulKernels::multiply_registers(std::size_t rounds) const {
  return micro_->multiply_registers(rounds);
}

std::size_t KrulKernels::steps(std::size_t depth) const {
  const std::size_t inputs = step_of(precision_).inputs;
  return (depth + inputs - 1) / inputs;
}

std::size_t KrulKernels::strip_bytes(std::size_t depth) const {
  const std::size_t scales = precision_ == Precision::int8 ? strip_columns * sizeof(float) : 0;
  return steps(depth) * step_of(precision_).strip_bytes + scales;
}

std::size_t KrulKernels::packed_bytes(std::size_t columns, std::size_t depth) const {
  return panels_of(columns) * (panel_columns / strip_columns) * strip_bytes(depth);
}

KrulKernels::Packed KrulKernels::make_packed(std::size_t columns, std::size_t depth,
                                             std::span<std::byte> memory) const {
  expects(memory.size() >= packed_bytes(columns, depth), "make_packed: the memory is too small");
  expects(reinterpret_cast<std::uintptr_t>(memory.data()) % 64 == 0, "make_packed: the memory is not aligned");
  Packed packed;
  packed.columns_ = columns;
  packed.depth_ = depth;
  packed.strips_ = memory.data();
  return packed;
}

void KrulKernels::pack(Packed& packed, std::size_t panel, std::span<const float> weights, Scratch&) const {
  detail::check_pack(packed, panel, weights);
  const std::size_t depth = packed.depth_, bytes = strip_bytes(depth);
  const std::size_t columns = weights.size() / depth;
  std::byte* strip = packed.strips_ + panel * (panel_columns / strip_columns) * bytes;
  std::memset(strip, 0, panels_of(columns) * (panel_columns / strip_columns) * bytes);
  for (std::size_t column = 0; column < columns; ++column)
    pack_column(weights.subspan(column * depth, depth), column % strip_columns, strip + column / strip_columns * bytes);
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
  return steps(depth) * step_of(precision_).row_bytes * (micro_->widens ? 2 : 1);
}

void KrulKernels::prepare(std::span<const float> values, std::size_t first, std::span<std::byte> row) const {
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
  const std::size_t groups = (values.size() + group_values - 1) / group_values;
  expects(first % group_values == 0, "prepare: the values do not begin where a group does");
  expects((first / group_values + groups) * sizeof(detail::Int8Group) <= row.size(),
          "prepare: the values lie outside the row");
  auto* group = row.data() + first / group_values * sizeof(detail::Int8Group);
  for (std::size_t k = 0; k < values.size(); k += group_values, group += sizeof(detail::Int8Group)) {
    auto& target = *reinterpret_cast<detail::Int8Group*>(group);
    if (values.size() - k >= group_values) {
      micro_->quantise(&values[k], target);
    } else {
      std::array<float, group_values> last{};
      std::copy(values.begin() + static_cast<std::ptrdiff_t>(k), values.end(), last.begin());
      micro_->quantise(last.data(), target);
    }
  }
}

void KrulKernels::multiply(const Packed& packed, PanelRange panels, std::span<const std::byte> rows, std::span<float> y,
                           Scratch&) const {
  const std::size_t one_row = row_bytes(packed.depth_);
  const std::size_t count = detail::check_multiply(packed, panels, one_row, rows.size(), y.size());
  const std::size_t tiles = (count + micro_->rows - 1) / micro_->rows;
  const std::size_t bytes = strip_bytes(packed.depth_);
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
        product.next_step = 128;
      } else {
        product.next = product.strip + bytes + bytes * tile / tiles;
        product.next_step = 128 / tiles;
      }
      micro_->multiply(product);
    }
}

}  // namespace krul
