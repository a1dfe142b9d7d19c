#include "krul/model/attention.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "krul/core/half.hpp"
#include "krul/reference/attention.hpp"
#include "support/levels.hpp"

using namespace krul;

namespace {

/// Random queries and a random cache of `tokens` rows; what lies behind the last position is NaN.
struct Problem {
  Geometry geometry;
  std::vector<Position> positions;
  std::vector<float> queries, keys, values;  // keys and values as the cache holds them
  std::vector<std::byte> key_bytes, value_bytes;

  Problem(std::size_t heads, std::size_t kv_heads, std::size_t dim, ElementType type, std::vector<Position> rows)
      : positions(std::move(rows)) {
    geometry.layers = 1;
    geometry.query_heads = heads;
    geometry.kv_heads = kv_heads;
    geometry.head_dim = dim;
    geometry.cache_type = type;
    std::mt19937 random(static_cast<unsigned>(heads * dim));
    std::normal_distribution<float> normal;
    const auto fill = [&](std::size_t n) {
      std::vector<float> all(n);
      for (auto& value : all) value = normal(random);
      return all;
    };
    queries = fill(positions.size() * heads * dim);
    const std::size_t seen = positions.back() + std::size_t{1};
    const auto pack = [&](std::vector<float>& rows_of, std::vector<std::byte>& bytes) {
      rows_of = fill(seen * geometry.kv_values());
      bytes.resize((seen + 9) * geometry.kv_row_bytes(), std::byte{0xff});
      const auto there = std::span(bytes).first(seen * geometry.kv_row_bytes());
      from_float(type, rows_of, there);
      to_float(type, there, rows_of);
    };
    pack(keys, key_bytes);
    pack(values, value_bytes);
  }

  [[nodiscard]] AttentionInput input() const { return {positions, queries, {key_bytes, value_bytes}}; }

  /// Of the operands as the arithmetic takes them.
  [[nodiscard]] reference::Attention expected(ElementType arithmetic) const {
    const auto doubles = [&](const std::vector<float>& from) {
      std::vector<double> taken(from.begin(), from.end());
      if (arithmetic == ElementType::bf16)
        for (double& value : taken)
          value = static_cast<double>(float_from_bf16(bf16_from_float(static_cast<float>(value))));
      return taken;
    };
    return reference::attention(geometry, positions, doubles(queries), doubles(keys), doubles(values));
  }
};

std::vector<Position> run(Position begin, Position end) {
  std::vector<Position> positions;
  for (Position position = begin; position < end; ++position) positions.push_back(position);
  return positions;
}

std::vector<Position> joined(std::vector<Position> a, const std::vector<Position>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// Bound on the error of one output or weight. A score of D products of values that rarely exceed 4 is off by less than
/// (D + 2) u times the sum of the products' sizes, at most D: after the division by sqrt(D) by D (D + 2) u / sqrt(D).
/// A weight is off by that much of itself, and so is the sum; n terms add n u at worst. Values stay below 6.
/// In bf16, of operands that were rounded before, a weight is also rounded by 2^-8 and exp2_for_bf16 off by 2^-17 of
/// it; both happen to the weight, the second to the sum too.
double allowed(const Problem& problem, ElementType arithmetic) {
  const double dim = static_cast<double>(problem.geometry.head_dim);
  const double sums =
      6 * 2 * (std::sqrt(dim) * (dim + 2) + static_cast<double>(problem.positions.back()) + 16) * 0x1p-24;
  return arithmetic == ElementType::bf16 ? sums + 6 * (0x1p-8 + 2 * 0x1p-17) : sums;
}

/// Room that a test lends for the weights of each second row of a batch.
struct Lent {
  std::vector<std::uint32_t> slots, cells{0};
  std::vector<std::uint16_t> values;
  std::vector<float> factors, bins;
  std::vector<LentWeights::Chunk> chunks;
  LentWeights room;

  Lent(const Problem& problem, bool read_soon, float negligible = 0) {
    constexpr std::size_t chunk_cells = 3, layers = 2;
    for (std::size_t row = 0; row < problem.positions.size(); ++row) {
      slots.push_back(row % 2 == 0 ? static_cast<std::uint32_t>(cells.size() - 1) : LentWeights::no_slot);
      if (row % 2 == 0)
        cells.push_back(cells.back() + static_cast<std::uint32_t>(problem.positions[row] / LentWeights::cell_keys + 1));
    }
    room.layer = 1;
    room.layers = layers;
    room.slots = slots;
    room.cells = cells;
    room.chunk_cells = chunk_cells;
    room.read_soon = read_soon;
    room.negligible = negligible;
    const std::size_t count = (problem.geometry.query_heads * cells.back() + chunk_cells - 1) / chunk_cells;
    constexpr std::size_t chunk_values = chunk_cells * layers * LentWeights::cell_keys;
    values.resize(count * chunk_values + 32, 0xffff);
    factors.resize(count * chunk_cells * layers);
    bins.resize(factors.size() * LentWeights::cell_bins);
    auto* const aligned =
        reinterpret_cast<std::uint16_t*>((reinterpret_cast<std::uintptr_t>(values.data()) + 63) / 64 * 64);
    for (std::size_t chunk = 0; chunk < count; ++chunk)
      chunks.push_back({aligned + chunk * chunk_values, &factors[chunk * chunk_cells * layers],
                        &bins[chunk * chunk_cells * layers * LentWeights::cell_bins]});
    room.chunks = chunks;
  }
  [[nodiscard]] float weight(std::size_t head, std::size_t row, std::size_t key) const {
    const auto cell = room.cell(head, slots[row], key / LentWeights::cell_keys);
    return *cell.factor == 0 ? 0 : *cell.factor * float_from_bf16(cell.values[key % LentWeights::cell_keys]);
  }
};

std::vector<Problem> problems() {
  std::vector<Problem> all;
  for (const auto type : {ElementType::f32, ElementType::f16, ElementType::bf16}) {
    all.emplace_back(3, 1, 64, type, run(0, 300));
    all.emplace_back(4, 2, 16, type, joined(run(0, 40), run(500, 520)));
    all.emplace_back(7, 1, 24, type, joined(run(250, 270), {600}));
    all.emplace_back(2, 2, 80, type, std::vector<Position>{700});
    all.emplace_back(2, 1, 5, type, run(0, 3));
  }
  return all;
}

/// Calls check(processor) for each level that this one has; bf16 products count where it has them.
template <class Check>
void for_each_processor(Check&& check) {
  for (Processor processor : testing::processors_by_level()) {
    processor.vendor = "AuthenticAMD";
    CAPTURE(name(processor.level()));
    check(processor);
  }
}

/// Calls check(problem, attention) for each problem on each of them.
template <class Check>
void for_each_attention(std::size_t threads, Check&& check) {
  for_each_processor([&](const Processor& processor) {
    for (const Problem& problem : problems()) {
      CAPTURE(problem.geometry.head_dim);
      CAPTURE(name(problem.geometry.cache_type));
      BlockAttention attention(problem.geometry, threads, Precision::bf16, processor);
      check(problem, attention);
    }
  });
}

}  // namespace

TEST_CASE("attention runs on the widest instructions, in bf16 where that is the faster arithmetic") {
  const Problem problem(2, 1, 16, ElementType::f32, run(0, 4));
  for_each_processor([&](Processor processor) {
    using enum InstructionLevel;
    const bool bf16 = processor.level() == avx512_bf16;
    const BlockAttention attention(problem.geometry, 1, Precision::bf16, processor);
    CHECK(attention.level() == (processor.level() == avx2_vnni ? avx2 : processor.level()));
    CHECK(attention.arithmetic() == attention_arithmetic(Precision::int8, processor));
    CHECK(attention.arithmetic() == (bf16 ? ElementType::bf16 : ElementType::f32));
    const BlockAttention exact(problem.geometry, 1, Precision::f32, processor);
    CHECK(exact.arithmetic() == ElementType::f32);
    CHECK(exact.level() == (bf16 ? avx512 : attention.level()));
    processor.vendor = "GenuineIntel";
    CHECK(attention_arithmetic(Precision::bf16, processor) == ElementType::f32);
  });
}

TEST_CASE("block attention agrees with its twin") {
  Workers workers(2);
  for_each_attention(2, [&](const Problem& problem, BlockAttention& attention) {
    std::vector<float> out(problem.queries.size());
    attention.attend(problem.input(), out, workers);
    const auto expected = problem.expected(attention.arithmetic());
    double worst = 0;
    for (std::size_t i = 0; i < out.size(); ++i) worst = std::fmax(worst, std::abs(out[i] - expected.out[i]));
    CHECK(worst <= allowed(problem, attention.arithmetic()));
    for (const float value : out) REQUIRE(std::isfinite(value));
  });
}

TEST_CASE("a row's bits depend neither on the threads nor on the rows beside it") {
  Workers one(1), three(3);
  for_each_attention(3, [&](const Problem& problem, BlockAttention& attention) {
    std::vector<float> out(problem.queries.size()), again(out.size());
    attention.attend(problem.input(), out, one);
    attention.attend(problem.input(), again, three);
    CHECK(out == again);
    const std::size_t width = problem.geometry.query_heads * problem.geometry.head_dim;
    for (const std::size_t row : {std::size_t{0}, problem.positions.size() / 2, problem.positions.size() - 1}) {
      auto input = problem.input();
      input.positions = input.positions.subspan(row, 1);
      input.queries = input.queries.subspan(row * width, width);
      std::vector<float> alone(width);
      attention.attend(input, alone, three);
      CHECK(std::equal(alone.begin(), alone.end(), out.begin() + static_cast<std::ptrdiff_t>(row * width)));
    }
  });
}

TEST_CASE("the weights are the twin's, and 0 where causality forbids") {
  Workers workers(2);
  for_each_attention(2, [&](const Problem& problem, BlockAttention& attention) {
    const RowRange rows{problem.positions.size() / 3, problem.positions.size()};
    const std::size_t keys = problem.positions.back() + std::size_t{1}, heads = problem.geometry.query_heads;
    std::vector<float> weights(heads * rows.size() * keys, -1.0F);
    attention.weights(problem.input(), rows, weights, workers);
    const auto expected = problem.expected(attention.arithmetic());
    double worst = 0;
    for (std::size_t head = 0; head < heads; ++head)
      for (std::size_t row = rows.begin; row < rows.end; ++row)
        for (std::size_t key = 0; key < keys; ++key) {
          const float weight = weights[(head * rows.size() + row - rows.begin) * keys + key];
          const auto& twin = expected.weights[row * heads + head];
          if (key >= twin.size())
            REQUIRE(weight == 0);
          else
            worst = std::fmax(worst, std::abs(weight - twin[key]));
        }
    CHECK(worst <= allowed(problem, attention.arithmetic()));
  });
}

TEST_CASE("weights written while attending are those computed alone, and change nothing") {
  Workers one(1), three(3);
  for_each_attention(3, [&](const Problem& problem, BlockAttention& attention) {
    const std::size_t keys = problem.positions.back() + std::size_t{1}, heads = problem.geometry.query_heads;
    const RowRange rows{0, problem.positions.size()};
    std::vector<float> out(problem.queries.size()), again(out.size());
    std::vector<float> alone(heads * rows.size() * keys), beside(alone.size(), -1.0F), shared(alone.size(), -1.0F);
    attention.attend(problem.input(), out, one);
    attention.weights(problem.input(), rows, alone, three);
    attention.attend_and_show(problem.input(), again, beside, one);
    CHECK(out == again);
    attention.attend_and_show(problem.input(), again, shared, three);
    CHECK(out == again);
    CHECK(beside == shared);
    double worst = 0;
    for (std::size_t i = 0; i < alone.size(); ++i)
      if (alone[i] == 0 || beside[i] == 0)
        REQUIRE(std::abs(alone[i] - beside[i]) <= 1e-30F);
      else
        worst = std::fmax(worst, std::abs(alone[i] - beside[i]));
    CHECK(worst <= 2 * allowed(problem, attention.arithmetic()));
  });
}

TEST_CASE("lent cells hold the wanted rows' weights, and nothing else changes") {
  Workers one(1), three(3);
  for_each_attention(3, [&](const Problem& problem, BlockAttention& attention) {
    std::vector<float> out(problem.queries.size()), again(out.size());
    attention.attend(problem.input(), out, one);
    const auto expected = problem.expected(attention.arithmetic());
    const std::size_t heads = problem.geometry.query_heads;
    for (const bool soon : {false, true}) {
      const Lent lent(problem, soon);
      attention.attend(problem.input(), again, soon ? one : three, lent.room);
      CHECK(out == again);
      double worst = 0;
      for (std::size_t row = 0; row < problem.positions.size(); row += 2)
        for (std::size_t head = 0; head < heads; ++head) {
          const auto& twin = expected.weights[row * heads + head];
          const Position query = problem.positions[row];
          for (std::size_t key = 0; key < twin.size(); ++key)
            worst = std::fmax(worst, std::abs(lent.weight(head, row, key) - twin[key]) - 0x1p-8 * twin[key]);
          for (std::size_t key = twin.size(); key % LentWeights::cell_unit != 0; ++key)
            REQUIRE(lent.weight(head, row, key) == 0);
          const std::size_t cell = query / LentWeights::cell_keys, written = LentWeights::written(query, cell);
          if (written < LentWeights::cell_keys)
            REQUIRE(lent.room.cell(head, lent.slots[row], cell).values[written] == 0xffff);
        }
      CHECK(worst <= allowed(problem, attention.arithmetic()));
      double worst_bin = 0;
      for (std::size_t row = 0; row < problem.positions.size(); row += 2)
        for (std::size_t head = 0; head < heads; ++head) {
          const auto& twin = expected.weights[row * heads + head];
          for (std::size_t bin = 0; bin * LentWeights::bin_keys < twin.size(); ++bin) {
            const auto cell = lent.room.cell(head, lent.slots[row], bin / LentWeights::cell_bins);
            const auto from = twin.begin() + static_cast<std::ptrdiff_t>(bin * LentWeights::bin_keys);
            const auto to =
                twin.begin() + static_cast<std::ptrdiff_t>(std::min(twin.size(), (bin + 1) * LentWeights::bin_keys));
            const double sum = std::accumulate(from, to, 0.0);
            worst_bin = std::fmax(worst_bin, std::abs(cell.bins[bin % LentWeights::cell_bins] - sum) - 0x1p-8 * sum);
          }
        }
      CHECK(worst_bin <= LentWeights::bin_keys * allowed(problem, attention.arithmetic()));
      CHECK(std::count(lent.factors.begin(), lent.factors.end(), 0.0F) >=
            static_cast<std::ptrdiff_t>(lent.factors.size() / 2));  // the other layer's
    }
  });
}

TEST_CASE("cells have no factor if none of their weights is above what is negligible") {
  for_each_processor([](const Processor& processor) {
    constexpr float negligible = 0x1p-8F;
    for (const std::size_t threads : {1, 3}) {
      Workers workers(threads);
      // Random scores are too even to leave cells out: the first keys' are raised.
      Problem problem(2, 1, 16, ElementType::f32, run(700, 900));
      for (std::size_t row = 0; row < problem.positions.size(); ++row)
        for (std::size_t i = 0; i < 32; ++i) problem.queries[row * 32 + i] = 0.5F + static_cast<float>(row % 7) / 4;
      std::vector<float> raised(16, 2.0F);
      from_float(ElementType::f32, raised, std::span(problem.key_bytes).first(64));
      std::copy(raised.begin(), raised.end(), problem.keys.begin());
      BlockAttention attention(problem.geometry, threads, Precision::bf16, processor);
      const Lent all(problem, false), some(problem, false, negligible);
      std::vector<float> out(problem.queries.size());
      attention.attend(problem.input(), out, workers, all.room);
      attention.attend(problem.input(), out, workers, some.room);
      std::size_t left_out = 0, kept = 0;
      for (std::size_t row = 0; row < problem.positions.size(); row += 2)
        for (std::size_t head = 0; head < 2; ++head)
          for (std::size_t cell = 0; cell <= problem.positions[row] / LentWeights::cell_keys; ++cell) {
            const auto whole = all.room.cell(head, all.slots[row], cell),
                       cut = some.room.cell(head, some.slots[row], cell);
            REQUIRE(std::equal(whole.bins, whole.bins + LentWeights::cell_bins, cut.bins));
            REQUIRE(*cut.factor == (*whole.factor > negligible ? *whole.factor : 0));
            ++(*cut.factor == 0 ? left_out : kept);
            if (*cut.factor != 0)
              REQUIRE(std::equal(whole.values, whole.values + LentWeights::written(problem.positions[row], cell),
                                 cut.values));
          }
      CHECK(left_out > 0);
      CHECK(kept > 0);
    }
  });
}

TEST_CASE("cells are written up to the query's own key, in whole units") {
  CHECK(LentWeights::written(0, 0) == 32);
  CHECK(LentWeights::written(31, 0) == 32);
  CHECK(LentWeights::written(32, 0) == 64);
  CHECK(LentWeights::written(255, 0) == 256);
  CHECK(LentWeights::written(255, 1) == 0);
  CHECK(LentWeights::written(256, 1) == 32);
  CHECK(LentWeights::written(1000, 1) == 256);
}

TEST_CASE("large scores do not overflow") {
  for_each_processor([](const Processor& processor) {
    Workers workers(1);
    Problem problem(1, 1, 16, ElementType::f32, run(0, 20));
    for (auto& query : problem.queries) query *= 1000;
    BlockAttention attention(problem.geometry, 1, Precision::bf16, processor);
    std::vector<float> out(problem.queries.size());
    attention.attend(problem.input(), out, workers);
    for (const float value : out) CHECK(std::isfinite(value));
  });
}

TEST_CASE("sizes that do not fit together are refused") {
  for_each_processor([](const Processor& processor) {
    Workers workers(2);
    const Problem problem(2, 1, 16, ElementType::f32, run(0, 4));
    BlockAttention attention(problem.geometry, 2, Precision::bf16, processor);
    std::vector<float> out(problem.queries.size()), weights(2 * 4 * 4);
    auto input = problem.input();
    CHECK_THROWS_AS(attention.attend(input, std::span(out).first(5), workers), PreconditionError);
    CHECK_THROWS_AS(attention.attend_and_show(input, out, std::span(weights).first(5), workers), PreconditionError);
    CHECK_THROWS_AS(attention.weights(input, {0, 4}, std::span(weights).first(5), workers), PreconditionError);
    CHECK_THROWS_AS(attention.weights(input, {0, 5}, weights, workers), PreconditionError);
    CHECK_THROWS_AS(attention.weights(input, {2, 2}, weights, workers), PreconditionError);
    input.queries = input.queries.first(16);
    CHECK_THROWS_AS(attention.attend(input, out, workers), PreconditionError);
    input = problem.input();
    input.cache.keys = input.cache.keys.first(3 * problem.geometry.kv_row_bytes());
    CHECK_THROWS_AS(attention.attend(input, out, workers), PreconditionError);
    Lent lent(problem, false);
    auto room = lent.room;
    room.chunks = room.chunks.first(1);
    CHECK_THROWS_AS(attention.attend(problem.input(), out, workers, room), PreconditionError);
    room = lent.room;
    room.slots = room.slots.first(3);
    CHECK_THROWS_AS(attention.attend(problem.input(), out, workers, room), PreconditionError);
    room = lent.room;
    std::fill(lent.cells.begin() + 1, lent.cells.end(), 0);
    CHECK_THROWS_AS(attention.attend(problem.input(), out, workers, room), PreconditionError);
    lent.cells = Lent(problem, false).cells;
    lent.room.cells = lent.cells;
    lent.slots[1] = static_cast<std::uint32_t>(lent.cells.size() - 1);
    CHECK_THROWS_AS(attention.attend(problem.input(), out, workers, lent.room), PreconditionError);
    Workers many(3);
    CHECK_THROWS_AS(attention.attend(problem.input(), out, many), PreconditionError);
  });
}
