#include "krul/cuda/kernels/attend_rows.hpp"

#include <doctest/doctest.h>

#include "cuda/attention_problem.hpp"

using namespace krul;
using cuda::KeySplits, cuda::AttentionShape;
using cuda::test::AttentionBounds, cuda::test::AttentionProblem, cuda::test::Attended;

namespace {

constexpr ElementType types[] = {ElementType::f32, ElementType::f16, ElementType::bf16};

Geometry geometry_of(ElementType type, std::size_t heads, std::size_t kv_heads, std::size_t dim) {
  return {.layers = 1, .query_heads = heads, .kv_heads = kv_heads, .head_dim = dim, .cache_type = type};
}

std::vector<Position> run(Position begin, Position end) {
  std::vector<Position> positions;
  for (Position position = begin; position < end; ++position) positions.push_back(position);
  return positions;
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

/// The largest part of what is allowed that any output is off by. Weights are divided by their sum, which is off like
/// them; they are rounded to the cache's type, f16 below 2^-14 by 2^-25 of the top weight, which the sum is at least;
/// out is rounded last.
double worst_of(const AttentionProblem& problem, const Attended& found, ElementType out_type, const KeySplits& splits) {
  const ElementType type = problem.geometry.cache_type;
  const std::size_t dim = problem.geometry.head_dim;
  const AttentionBounds bounds(problem, splits);
  const auto expected = problem.expected();
  auto sizes = problem.doubles(problem.values);
  double largest_value = 0;
  for (double& value : sizes) largest_value = std::max(largest_value, value = std::abs(value));
  const auto weighted = problem.expected_of(sizes).out;
  const double rounded = type == ElementType::f32 ? 0 : unit_roundoff(type);
  const double lost = type == ElementType::f16 ? 0x1p-25 * static_cast<double>(problem.seen()) * largest_value : 0;
  double worst = 0;
  for (std::size_t i = 0; i < found.out.size(); ++i) {
    const double off = (2 * bounds.weight + 2 * bounds.sum + rounded) * weighted[i] + lost;
    const double allowed = off * (1 + 0x1p-6) + unit_roundoff(out_type) * (std::abs(expected.out[i]) + off) + 0x1p-25;
    REQUIRE(std::abs(found.out[i] - expected.out[i]) <= allowed);
    worst = std::max(worst, std::abs(found.out[i] - expected.out[i]) / allowed);
  }
  (void)dim;
  return worst;
}

}  // namespace

TEST_CASE("a device attends to keys as the twin does") {
  std::mt19937_64 random(5);
  double worst = 0;
  for (std::uint64_t round = 0; round < 210; ++round) {
    CAPTURE(round);
    const AttentionProblem problem = cuda::test::random_attention(types[round % 3], random);
    const ElementType out_type = types[round / 3 % 3];
    const KeySplits splits = cuda::split_keys(static_cast<std::uint32_t>(problem.seen()), 1 + round % 5);
    worst = std::max(worst, worst_of(problem, problem.attend(out_type, splits, round), out_type, splits));
  }
  MESSAGE("off by at most " << worst << " of what is allowed");
}
