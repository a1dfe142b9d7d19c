#include "krul/cuda/kernels/attend_rows.hpp"

#include <doctest/doctest.h>

#include "cuda/attention_problem.hpp"
#include "cuda/cache_types.hpp"
#include "cuda/fibre_place.hpp"

using namespace krul;
using cuda::AttentionShape, cuda::KeySplits, cuda::plan_attention;
using cuda::test::AttentionProblem, cuda::test::Attended, cuda::test::FibrePlace;

namespace {

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

}  // namespace

TEST_CASE("a device attends to keys as the twin does") {
  std::mt19937_64 random(5);
  double worst = 0;
  for (std::uint64_t round = 0; round < 210; ++round) {
    CAPTURE(round);
    const AttentionProblem problem = cuda::test::random_attention(cuda::test::cache_types[round % 3], random);
    const ElementType out_type = cuda::test::cache_types[round / 3 % 3];
    const KeySplits splits =
        cuda::split_keys(static_cast<std::uint32_t>(problem.seen()), static_cast<std::uint32_t>(1 + round % 5));
    const Attended found = problem.attend(FibrePlace(round), out_type, splits);
    const double error = cuda::test::error_of(problem, found, out_type, splits);
    CHECK(error <= 1);
    worst = std::max(worst, error);
  }
  MESSAGE("off by at most " << worst << " of what is allowed");
}

TEST_CASE("a row's bits do not depend on the rows beside it, nor on the order of threads") {
  std::mt19937_64 random(6);
  for (std::uint64_t round = 0; round < 24; ++round) {
    CAPTURE(round);
    const AttentionProblem problem = cuda::test::random_attention(cuda::test::cache_types[round % 3], random);
    const KeySplits splits =
        cuda::split_keys(static_cast<std::uint32_t>(problem.seen()), static_cast<std::uint32_t>(1 + round % 3));
    const Attended all = problem.attend(FibrePlace(round), ElementType::f32, splits);
    CHECK(same_bits(all.out, problem.attend(FibrePlace(round + 2000), ElementType::f32, splits, false).out));
    const std::size_t row = random() % problem.positions.size(), heads = problem.geometry.query_heads;
    AttentionProblem alone = problem;
    alone.positions = {problem.positions[row]};
    const std::span queries = std::span(problem.queries).subspan(row * problem.row_values(), problem.row_values());
    alone.queries.assign(queries.begin(), queries.end());
    const Attended one = alone.attend(FibrePlace(round + 1000), ElementType::f32, splits);
    CHECK(same_bits(one.out, std::span(all.out).subspan(row * problem.row_values(), problem.row_values())));
    CHECK(same_bits(one.log_sums, std::span(all.log_sums).subspan(row * heads, heads)));
  }
}

TEST_CASE("what is not finite is seen in the rows that see it, and in no others") {
  std::mt19937_64 random(7);
  constexpr float infinity = std::numeric_limits<float>::infinity();
  constexpr float damages[] = {std::numeric_limits<float>::quiet_NaN(), infinity, -infinity};
  for (std::uint64_t round = 0; round < 108; ++round) {
    CAPTURE(round);
    const std::size_t dim = round % 4 == 0 ? 24 : 16, heads = 4, kv_heads = 2;
    const auto positions = round % 2 == 0 ? run(60, 75) : std::vector<Position>{3, 64, 65, 130, 200};
    const AttentionProblem sound(geometry_of(cuda::test::cache_types[round % 3], heads, kv_heads, dim), positions,
                                 random);
    const KeySplits splits =
        cuda::split_keys(static_cast<std::uint32_t>(sound.seen()), static_cast<std::uint32_t>(1 + round / 9 % 3));
    AttentionProblem damaged = sound;
    const float damage = damages[round / 3 % 3];
    const std::size_t row = random() % positions.size(), head = random() % heads, d = random() % dim;
    const std::size_t key = positions[row] - random() % std::min<std::size_t>(4, positions[row] + std::size_t{1});
    const std::size_t kv_head = head / (heads / kv_heads), side = round / 36;
    const std::size_t in_cache = (key * kv_heads + kv_head) * dim + d;
    if (side == 0) damaged.queries[(row * heads + head) * dim + d] = damage;
    if (side == 1) damaged.put(damaged.keys, in_cache, damage);
    if (side == 2) damaged.put(damaged.values, in_cache, damage);
    const Attended expected = sound.attend(FibrePlace(round), ElementType::f32, splits),
                   found = damaged.attend(FibrePlace(round), ElementType::f32, splits);
    for (std::size_t at = 0; at < positions.size() * heads; ++at) {
      const bool sees = side == 0 ? at == row * heads + head
                                  : positions[at / heads] >= key && at % heads / (heads / kv_heads) == kv_head;
      const auto out = std::span(found.out).subspan(at * dim, dim);
      if (sees)
        CHECK(!std::ranges::all_of(out, [](float value) { return std::isfinite(value); }));
      else
        CHECK(same_bits(out, std::span(expected.out).subspan(at * dim, dim)));
    }
  }
}

TEST_CASE("large scores do not overflow") {
  std::mt19937_64 random(8);
  for (const ElementType type : cuda::test::cache_types) {
    AttentionProblem problem(geometry_of(type, 2, 1, 16), run(0, 80), random);
    for (float& query : problem.queries) query *= 1000;
    for (const float value : problem.attend(FibrePlace(1), ElementType::f32, KeySplits{}).out)
      CHECK(std::isfinite(value));
  }
}

TEST_CASE("keys are split if there are few rows, into parts of which none is empty") {
  for (std::uint32_t keys = 1; keys < 2000; keys += 37)
    for (std::uint32_t count = 1; count < 40; ++count) {
      const KeySplits splits = cuda::split_keys(keys, count);
      CHECK(splits.count <= count);
      if (splits.count == 1) continue;
      CHECK(splits.keys % 64 == 0);
      CHECK((splits.count - 1) * splits.keys < keys);
      CHECK(splits.count * splits.keys >= keys);
    }
  // A token of a conversation of 8,192 on 132 multiprocessors; then a long prompt.
  const AttentionShape one{1, 32, 8, 128, 8192, ElementType::bf16}, many{2048, 32, 8, 128, 8192, ElementType::bf16};
  const auto split = plan_attention(one, 132U), whole = plan_attention(many, 132U);
  CHECK(split.splits.count == 32);
  CHECK(split.splits.keys == 256);
  CHECK(split.attend.blocks == 8 * 32);
  CHECK(split.join.blocks == 8);
  CHECK(split.parts_bytes == 32 * 32 * (128 + 2) * sizeof(float));
  CHECK(whole.splits.count == 1);
  CHECK(whole.attend.blocks == 8 * 2048 * 4 / 64);
  CHECK(whole.parts_bytes == 0);
  // What a block may have without being asked for.
  for (const std::uint32_t dim : {64U, 96U, 128U, 256U})
    CHECK(plan_attention({1, 1, 1, dim, 1, ElementType::f16}, 1U).attend.shared_bytes <= 48 << 10);
  CHECK_THROWS_AS((void)plan_attention({1, 3, 2, 64, 1, ElementType::f16}, 1U), PreconditionError);
  CHECK_THROWS_AS((void)plan_attention({1, 1, 1, 60, 1, ElementType::f16}, 1U), PreconditionError);
  CHECK_THROWS_AS((void)plan_attention({1, 1, 1, 264, 1, ElementType::f32}, 1U), PreconditionError);
  CHECK_THROWS_AS((void)plan_attention({0, 1, 1, 64, 1, ElementType::f32}, 1U), PreconditionError);
}
