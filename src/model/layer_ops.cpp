#include "krul/model/layer_ops.hpp"

#include <cmath>

#include "krul/core/error.hpp"
#include "krul/core/half.hpp"
#include "lanes.hpp"

namespace krul {
namespace {

/// Calls step(i) for whole vectors and rest(i) for what is left of n values.
template <class Step, class Rest>
void by_lanes(std::size_t n, Step&& step, Rest&& rest) {
  std::size_t i = 0;
  for (; i + lane_count <= n; i += lane_count) step(i);
  for (; i < n; ++i) rest(i);
}

}  // namespace

void rms_norm(std::span<const float> row, std::span<const float> weight, float epsilon, std::span<float> out) {
  expects(row.size() == weight.size() && row.size() == out.size(), "rms_norm: the lengths differ");
  Lanes squares{};
  float rest = 0;
  by_lanes(
      row.size(),
      [&](std::size_t i) {
        const Lanes values = load(&row[i]);
        squares += values * values;
      },
      [&](std::size_t i) { rest += row[i] * row[i]; });
  const float mean = (sum_of(squares) + rest) / static_cast<float>(row.size());
  const float scale = 1.0F / std::sqrt(mean + epsilon);
  by_lanes(
      row.size(), [&](std::size_t i) { store(load(&row[i]) * scale * load(&weight[i]), &out[i]); },
      [&](std::size_t i) { out[i] = row[i] * scale * weight[i]; });
}

void swiglu(std::span<const float> gate, std::span<const float> up, std::span<float> out) {
  expects(gate.size() == up.size() && gate.size() == out.size(), "swiglu: the lengths differ");
  const auto step = [](Lanes g, Lanes u) { return g / (1.0F + exp(-g)) * u; };
  std::size_t i = 0;
  for (; i + lane_count <= gate.size(); i += lane_count) store(step(load(&gate[i]), load(&up[i])), &out[i]);
  if (i < gate.size()) {  // the same arithmetic for the last few, so that a value does not depend on its place
    float g[lane_count] = {}, u[lane_count] = {};
    const std::size_t left = gate.size() - i;
    std::memcpy(g, &gate[i], left * sizeof(float));
    std::memcpy(u, &up[i], left * sizeof(float));
    store(step(load(g), load(u)), g);
    std::memcpy(&out[i], g, left * sizeof(float));
  }
}

void add_to(std::span<float> to, std::span<const float> from) {
  expects(to.size() == from.size(), "add_to: the lengths differ");
  by_lanes(
      to.size(), [&](std::size_t i) { store(load(&to[i]) + load(&from[i]), &to[i]); },
      [&](std::size_t i) { to[i] += from[i]; });
}

void round_row(ElementType type, std::span<const float> from, std::span<std::byte> to) {
  if (type != ElementType::bf16) return from_float(type, from, to);
  expects(to.size() == from.size() * sizeof(std::uint16_t), "round_row: the lengths differ");
  using Bits [[gnu::vector_size(lane_count * 4)]] = std::uint32_t;
  using Halves [[gnu::vector_size(lane_count * 2)]] = std::uint16_t;
  by_lanes(
      from.size(),
      [&](std::size_t i) {
        Bits bits;
        std::memcpy(&bits, &from[i], sizeof bits);
        const Bits nearest = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
        const Bits quiet = (bits >> 16) | 0x40U;  // NaN stays NaN
        const Halves halves = __builtin_convertvector((bits & 0x7fffffffU) > 0x7f800000U ? quiet : nearest, Halves);
        std::memcpy(&to[2 * i], &halves, sizeof halves);
      },
      [&](std::size_t i) {
        const std::uint16_t half = bf16_from_float(from[i]);
        std::memcpy(&to[2 * i], &half, sizeof half);
      });
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

void RotaryTable::rotate(std::span<float> heads, std::size_t head_dim, std::span<const float> angles) const {
  const std::size_t pairs = rotary_.dimensions / 2;
  expects(head_dim >= rotary_.dimensions && head_dim > 0 && heads.size() % head_dim == 0,
          "RotaryTable: no whole heads");
  expects(angles.size() == 2 * pairs, "RotaryTable: the angles have the wrong length");
  const float* cosines = angles.data();
  const float* sines = cosines + pairs;
  for (float* head = heads.data(); head != heads.data() + heads.size(); head += head_dim) {
    if (rotary_.pairs == RotaryPairs::interleaved) {
      for (std::size_t i = 0; i < pairs; ++i) {
        const float x = head[2 * i], y = head[2 * i + 1];
        head[2 * i] = x * cosines[i] - y * sines[i];
        head[2 * i + 1] = y * cosines[i] + x * sines[i];
      }
    } else {
      for (std::size_t i = 0; i < pairs; ++i) {
        const float x = head[i], y = head[i + pairs];
        head[i] = x * cosines[i] - y * sines[i];
        head[i + pairs] = y * cosines[i] + x * sines[i];
      }
    }
  }
}

}  // namespace krul
