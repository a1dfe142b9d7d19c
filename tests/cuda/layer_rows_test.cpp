#include "krul/cuda/kernels/layer_rows.hpp"

#include <doctest/doctest.h>

#include <limits>

#include "cuda/layer_problem.hpp"
#include "krul/cuda/kernels/multiply_weights.hpp"
#include "krul/reference/forward.hpp"

namespace krul::cuda::test::layer_rows {

namespace {

constexpr ElementType types[] = {ElementType::f32, ElementType::f16, ElementType::bf16};
constexpr double u = f32_roundoff;
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float no_number = std::numeric_limits<float>::quiet_NaN();

constexpr std::uint32_t narrow(std::size_t n) {
  return static_cast<std::uint32_t>(n);
}

/// Fewer blocks than rows, or as many, or more.
Launch random_launch(std::size_t rows, std::mt19937_64& random) {
  constexpr unsigned threads[] = {32, 64, 96, 256};
  const unsigned count = threads[random() % 4];
  return {1 + static_cast<unsigned>(random() % (rows + 1)), count, NormRows::shared_bytes(count)};
}

/// Rows of hidden states, and what norms make of them.
struct NormProblem {
  std::size_t rows, width;
  float epsilon = 1e-5F;
  std::vector<float> values, weight;

  NormProblem(std::size_t count, std::size_t wide, double size, std::mt19937_64& random)
      : rows(count),
        width(wide),
        values(random_values(rows * width, size, random)),
        weight(random_values(width, 1, random)) {}

  [[nodiscard]] TypedValues norm(ElementType type, const Launch& launch, std::uint64_t seed) const {
    TypedValues out(type, rows * width);
    run_grid(NormRows{values.data(), weight.data(), out.data(), type, epsilon, narrow(rows), narrow(width)}, launch,
             seed);
    return out;
  }
  [[nodiscard]] std::span<const float> row(std::size_t index) const {
    return std::span(values).subspan(index * width, width);
  }

  /// Squares are all positive, so a sum of n of them is off by n u of itself: a thread adds its own, a warp 5 times,
  /// then come the warps. The mean's factor, its sum and epsilon add 3 u, the root halves what is there and has 4 u of
  /// its own, and two products follow.
  [[nodiscard]] double roundings(const Launch& launch) const {
    const double added = std::ceil(static_cast<double>(width) / launch.threads) + 5 + launch.threads / 32.0;
    return ((added + 3) / 2 + 4 + 2) * u;
  }
};

void check_norm(const NormProblem& problem, ElementType type, const Launch& launch, Closeness& close) {
  const TypedValues found = problem.norm(type, launch, problem.width);
  const auto values = found.doubles(), weight = doubles_of(problem.weight);
  for (std::size_t row = 0; row < problem.rows; ++row) {
    const auto expected = reference::rms_norm(doubles_of(problem.row(row)), weight, problem.epsilon);
    for (std::size_t i = 0; i < problem.width; ++i) {
      const double off = problem.roundings(launch) * std::abs(expected[i]) * (1 + 0x1p-10) + 0x1p-126;
      REQUIRE(close.within(values[row * problem.width + i], expected[i],
                           off + rounding(type, std::abs(expected[i]) + off)));
    }
  }
  CHECK(found.untouched_behind());
}

}  // namespace

TEST_CASE("a device norms rows as the twin does") {
  std::mt19937_64 random(21);
  constexpr std::size_t widths[] = {1, 33, 576, 1000, 2, 31, 256, 896};
  Closeness close;
  for (std::uint64_t round = 0; round < 210; ++round) {
    CAPTURE(round);
    NormProblem problem(1 + random() % 5, widths[random() % 8], std::exp2(static_cast<double>(random() % 40) - 20),
                        random);
    problem.epsilon = round % 2 == 0 ? 1e-5F : 1e-6F;
    check_norm(problem, types[round % 3], random_launch(problem.rows, random), close);
  }
  MESSAGE("off by at most " << close.worst() << " of what is allowed");
}

TEST_CASE("a row of any finite values is normed, though their squares are not finite") {
  std::mt19937_64 random(22);
  Closeness close;
  constexpr double sizes[] = {1e18, 1e19, 1e25, 1e30, 5e37};
  for (std::uint64_t round = 0; round < 60; ++round) {
    CAPTURE(round);
    NormProblem problem(2, round % 4 == 0 ? 1 : 33 + random() % 700, sizes[round % 5], random);
    for (float& value : problem.values) value = std::isfinite(value) ? value : 1e38F;
    if (round % 3 == 0) problem.values.back() = 1e-30F;
    check_norm(problem, types[round % 3], random_launch(problem.rows, random), close);
  }
  // As large as there are, and wide.
  NormProblem largest(1, 8200, 1, random);
  for (float& value : largest.values) value = std::copysign(std::numeric_limits<float>::max(), value);
  for (const ElementType type : types) check_norm(largest, type, {1, 256, NormRows::shared_bytes(256)}, close);
}

TEST_CASE("a row of zeros is normed to zeros") {
  std::mt19937_64 random(23);
  NormProblem problem(2, 100, 1, random);
  std::ranges::fill(problem.values, 0.0F);
  for (const ElementType type : types)
    for (const double value : problem.norm(type, {1, 64, NormRows::shared_bytes(64)}, 1).doubles()) CHECK(value == 0);
}

TEST_CASE("what is not finite in a row stays visible in it, and in no other") {
  std::mt19937_64 random(24);
  for (std::uint64_t round = 0; round < 60; ++round) {
    CAPTURE(round);
    const NormProblem sound(3, 1 + random() % 100, 1, random);
    NormProblem damaged = sound;
    const std::size_t row = random() % 3, at = row * sound.width + random() % sound.width;
    damaged.values[at] = round % 3 == 0 ? no_number : round % 3 == 1 ? infinity : -infinity;
    const ElementType type = types[round / 3 % 3];
    const Launch launch = random_launch(3, random);
    const auto expected = sound.norm(type, launch, round).doubles(),
               found = damaged.norm(type, launch, round).doubles();
    CHECK(!std::isfinite(found[at]));
    for (std::size_t i = 0; i < found.size(); ++i)
      if (i / sound.width != row) CHECK(found[i] == expected[i]);
  }
}

namespace {

/// A product of project, and where its parts go.
struct PlaceProblem {
  Geometry geometry;
  std::vector<std::uint32_t> positions;
  std::vector<std::uint8_t> written;
  std::vector<float> product, bias, angles;
  std::size_t capacity = 0;

  PlaceProblem(ElementType type, std::mt19937_64& random) {
    const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
    constexpr std::size_t dims[] = {8, 16, 40, 64, 96, 128, 200, 256};
    geometry = {.layers = 1, .kv_heads = 1 + below(3), .head_dim = dims[below(8)], .cache_type = type};
    geometry.query_heads = geometry.kv_heads * (1 + below(4));
    geometry.rotary = {.pairs = below(2) == 0 ? RotaryPairs::halves : RotaryPairs::interleaved,
                       .dimensions = below(3) == 0 ? 2 * (1 + below(geometry.head_dim / 2)) : geometry.head_dim,
                       .base = below(2) == 0 ? 10000.0 : 1000000.0};
    std::uint32_t position = narrow(below(below(3) == 0 ? 4000 : 3));
    for (std::size_t row = 0, rows = 1 + below(6); row < rows; ++row) {
      positions.push_back(position);
      written.push_back(below(2) == 0 ? 0 : static_cast<std::uint8_t>(1 + below(255)));
      position += narrow(1 + (below(4) == 0 ? below(9) : 0));
    }
    capacity = position + 2;
    product = random_values(positions.size() * width(), 1, random);
    if (below(2) == 0) bias = random_values(width(), 3, random);
    for (const std::uint32_t each : positions)
      for (const bool sine : {false, true})
        for (std::size_t i = 0; i < geometry.rotary.dimensions / 2; ++i) {
          const double angle =
              each * std::pow(geometry.rotary.base,
                              -2.0 * static_cast<double>(i) / static_cast<double>(geometry.rotary.dimensions));
          angles.push_back(static_cast<float>(sine ? std::sin(angle) : std::cos(angle)));
        }
  }

  [[nodiscard]] std::size_t width() const { return query_width() + 2 * geometry.kv_values(); }
  [[nodiscard]] std::size_t query_width() const { return geometry.query_heads * geometry.head_dim; }

  /// What a row should become, and the sizes of the terms that each of its values is the sum of.
  struct Row {
    std::vector<double> values, sizes;
  };
  [[nodiscard]] Row expected(std::size_t row) const {
    Row of;
    for (std::size_t i = 0; i < width(); ++i) {
      of.values.push_back(product[row * width() + i]);
      if (!bias.empty()) of.values.back() += bias[i];
      of.sizes.push_back(std::abs(of.values.back()));
    }
    const auto turned = std::span(of.values).first(query_width() + geometry.kv_values());
    reference::rotate(geometry.rotary, positions[row], turned, geometry.head_dim);
    const auto& [pairs, dimensions, base] = geometry.rotary;
    const std::vector<double> before = of.sizes;
    for (std::size_t i = 0; i < turned.size(); ++i) {
      const std::size_t head = i / geometry.head_dim * geometry.head_dim, in_head = i - head, half = dimensions / 2;
      if (in_head >= dimensions) continue;
      const bool interleaved = pairs == RotaryPairs::interleaved;
      const std::size_t pair = interleaved ? in_head / 2 : in_head % half;
      const std::size_t other = head + (interleaved ? in_head ^ 1U : (in_head + half) % dimensions);
      const float* const angle = &angles[row * dimensions];
      of.sizes[i] = before[i] * std::abs(angle[pair]) + before[other] * std::abs(angle[half + pair]);
    }
    return of;
  }

  [[nodiscard]] PlaceRows kernel(float* queries, TypedValues* keys, TypedValues& values) const {
    return {.product = product.data(),
            .bias = bias.empty() ? nullptr : bias.data(),
            .angles = angles.data(),
            .position = positions.data(),
            .written = written.empty() ? nullptr : written.data(),
            .queries = queries,
            .keys = keys == nullptr ? nullptr : keys->data(),
            .values = values.data(),
            .type = geometry.cache_type,
            .count = narrow(positions.size()),
            .query_heads = narrow(geometry.query_heads),
            .kv_heads = narrow(geometry.kv_heads),
            .head_dim = narrow(geometry.head_dim),
            .rotary_dimensions = narrow(geometry.rotary.dimensions),
            .interleaved = geometry.rotary.pairs == RotaryPairs::interleaved};
  }
};

}  // namespace

TEST_CASE("a device places queries, keys and values as the twin does, and leaves other rows alone") {
  std::mt19937_64 random(25);
  Closeness close;
  for (std::uint64_t round = 0; round < 240; ++round) {
    CAPTURE(round);
    PlaceProblem problem(types[round % 3], random);
    const Geometry& sizes = problem.geometry;
    const std::size_t rows = problem.positions.size(), kv = sizes.kv_values(), wide = problem.query_width();
    // Some rows are written, all of them, or none.
    const bool any = round % 5 != 0;
    if (round % 5 == 1) problem.written.clear();
    std::vector<float> queries(rows * wide + 8, no_number);
    TypedValues keys(sizes.cache_type, problem.capacity * kv), values(sizes.cache_type, problem.capacity * kv);
    run_grid(problem.kernel(queries.data(), any ? &keys : nullptr, values), random_launch(rows, random), round);

    const auto found_keys = keys.doubles(), found_values = values.doubles();
    std::vector<bool> expected_at(problem.capacity);
    for (std::size_t row = 0; row < rows; ++row) {
      // The bias, an angle, a product and the sum: each rounds once, whatever it rounds is at most the terms' sizes.
      const PlaceProblem::Row expected = problem.expected(row);
      const auto within = [&](double found, std::size_t i, ElementType type) {
        const double off = 4 * u * expected.sizes[i] * (1 + 0x1p-10);
        const double stored = type == ElementType::f32 ? 0x1p-149 : rounding(type, std::abs(expected.values[i]) + off);
        return close.within(found, expected.values[i], off + stored);
      };
      for (std::size_t i = 0; i < wide; ++i) REQUIRE(within(queries[row * wide + i], i, ElementType::f32));
      if (!any || (!problem.written.empty() && problem.written[row] == 0)) continue;
      const std::size_t at = problem.positions[row] * kv;
      expected_at[problem.positions[row]] = true;
      for (std::size_t i = 0; i < kv; ++i) {
        REQUIRE(within(found_keys[at + i], wide + i, sizes.cache_type));
        REQUIRE(within(found_values[at + i], wide + kv + i, sizes.cache_type));
      }
    }
    for (std::size_t position = 0; position < problem.capacity; ++position)
      if (!expected_at[position]) {
        CHECK(keys.untouched(position * kv, kv));
        CHECK(values.untouched(position * kv, kv));
      }
    CHECK(keys.untouched_behind());
    CHECK(values.untouched_behind());
    CHECK(std::all_of(queries.end() - 8, queries.end(), [](float each) { return std::isnan(each); }));
  }
  MESSAGE("off by at most " << close.worst() << " of what is allowed");
}

TEST_CASE("a value of a product that is not finite is seen in its pair, and nowhere else") {
  std::mt19937_64 random(26);
  for (std::uint64_t round = 0; round < 60; ++round) {
    CAPTURE(round);
    PlaceProblem problem(types[round % 3], random);
    problem.written.clear();
    const std::size_t rows = problem.positions.size(), kv = problem.geometry.kv_values(), wide = problem.query_width();
    const auto place = [&] {
      std::vector<float> queries(rows * wide);
      TypedValues keys(types[round % 3], problem.capacity * kv), values(types[round % 3], problem.capacity * kv);
      run_grid(problem.kernel(queries.data(), &keys, values), {2, 64}, round);
      std::vector<double> all = doubles_of(queries);
      for (const TypedValues* side : {&keys, &values})
        for (const std::uint32_t position : problem.positions) {
          const auto found = side->doubles();
          all.insert(all.end(), found.begin() + position * kv, found.begin() + (position + 1) * kv);
        }
      return all;
    };
    const auto sound = place();
    const std::size_t row = random() % rows, i = random() % problem.width();
    problem.product[row * problem.width() + i] = round % 2 == 0 ? no_number : infinity;
    const auto damaged = place();
    const std::size_t at = i < wide        ? row * wide + i
                           : i < wide + kv ? rows * wide + row * kv + i - wide
                                           : rows * (wide + kv) + row * kv + i - wide - kv;
    CHECK(!std::isfinite(damaged[at]));
    std::size_t changed = 0;
    for (std::size_t each = 0; each < sound.size(); ++each)
      changed += damaged[each] == sound[each] && std::isfinite(damaged[each]) ? 0 : 1;
    CHECK(changed <= 2);
  }
}

TEST_CASE("a device activates rows as the twin does") {
  std::mt19937_64 random(27);
  constexpr std::size_t widths[] = {1, 33, 576, 1000};
  Closeness close;
  for (std::uint64_t round = 0; round < 210; ++round) {
    CAPTURE(round);
    const ElementType type = types[round % 3];
    const std::size_t rows = 1 + random() % 4, width = widths[random() % 4];
    const auto product = random_values(rows * 2 * width, std::exp2(static_cast<double>(random() % 10) - 3), random);
    TypedValues out(type, rows * width);
    run_grid(ActivateRows{product.data(), out.data(), type, narrow(rows), narrow(width)}, random_launch(rows, random),
             round);
    const auto found = out.doubles();
    for (std::size_t row = 0; row < rows; ++row)
      for (std::size_t i = 0; i < width; ++i) {
        const double gate = product[row * 2 * width + i], up = product[(row * 2 + 1) * width + i];
        const double expected = gate / (1 + std::exp(-gate)) * up;
        // The power is off by 4 u, then come a sum, a quotient and a product. Below -88.7 the power is not finite in
        // f32 and the quotient 0: what is lost then is at most 88.8 e^-88.7 < 2^-121.
        const double off = 7 * u * std::abs(expected) * (1 + 0x1p-10) + 0x1p-121 * (std::abs(up) + 1);
        REQUIRE(close.within(found[row * width + i], expected, off + rounding(type, std::abs(expected) + off)));
      }
    CHECK(out.untouched_behind());
  }
  MESSAGE("off by at most " << close.worst() << " of what is allowed");
}

TEST_CASE("activations of what is large vanish or grow, and what is not a number stays none") {
  const float gates[] = {-1e30F, -200, -88.8F, 1e30F, no_number, infinity, 1};
  const float ups[] = {2, 2, 2, 2, 2, 2, no_number};
  std::vector<float> product(std::begin(gates), std::end(gates));
  product.insert(product.end(), std::begin(ups), std::end(ups));
  std::vector<float> out(7);
  run_grid(ActivateRows{product.data(), out.data(), ElementType::f32, 1, 7}, {1, 32}, 1);
  for (std::size_t i = 0; i < 3; ++i) CHECK(out[i] == 0);
  CHECK(out[3] == 2e30F);
  for (const std::size_t i : {4U, 6U}) CHECK(std::isnan(out[i]));
  CHECK(out[5] == infinity);
}

TEST_CASE("rows that are kept move up, bit for bit") {
  std::mt19937_64 random(28);
  constexpr std::size_t widths[] = {1, 33, 576, 1000};
  for (std::uint64_t round = 0; round < 210; ++round) {
    CAPTURE(round);
    const std::size_t rows = 1 + random() % 12, width = widths[random() % 4];
    std::vector<std::uint32_t> from(rows * width), kept, expected;
    for (std::uint32_t& word : from) word = narrow(random());
    for (std::size_t row = 0; row < rows; ++row)
      if (random() % 2 == 0) {
        kept.push_back(narrow(row));
        expected.insert(expected.end(), from.begin() + static_cast<std::ptrdiff_t>(row * width),
                        from.begin() + static_cast<std::ptrdiff_t>((row + 1) * width));
      }
    expected.resize(rows * width, 7);
    std::vector<std::uint32_t> to(rows * width, 7);
    run_grid(KeepRows{from.data(), to.data(), kept.data(), narrow(kept.size()), narrow(width)},
             random_launch(rows, random), round);
    CHECK(to == expected);
  }
}

TEST_CASE("a device multiplies rows with weights as the twin does") {
  std::mt19937_64 random(29);
  constexpr std::size_t depths[] = {1, 33, 576, 100};
  Closeness close;
  for (std::uint64_t round = 0; round < 210; ++round) {
    CAPTURE(round);
    const ElementType type = types[round % 3];
    const std::size_t count = 1 + random() % 4, columns = 1 + random() % 150, depth = depths[random() % 4];
    const TypedValues rows(type, random_values(count * depth, 1, random)),
        weights(type, random_values(columns * depth, 0.3, random));
    const auto before = random_values(count * columns, 2, random);
    std::vector<float> out = before;
    out.resize(out.size() + 4, no_number);
    const bool add = round / 3 % 2 == 0;
    run_grid(
        MultiplyWeights{{rows.data(), weights.data(), out.data(), narrow(count), narrow(columns), narrow(depth), add},
                        type},
        random_launch(count, random), round);

    const auto x = rows.doubles();
    const reference::Matrix matrix{columns, depth, weights.doubles()};
    reference::Matrix sizes = matrix;
    for (double& value : sizes.values) value = std::abs(value);
    for (std::size_t row = 0; row < count; ++row) {
      std::vector<double> mine(x.begin() + static_cast<std::ptrdiff_t>(row * depth),
                               x.begin() + static_cast<std::ptrdiff_t>((row + 1) * depth));
      const auto expected = reference::affine(matrix, mine);
      for (double& value : mine) value = std::abs(value);
      const auto terms = reference::affine(sizes, mine);
      for (std::size_t c = 0; c < columns; ++c) {
        // Each of `depth` fused sums rounds once, and so does what is added.
        const double old = add ? before[row * columns + c] : 0;
        const double off = static_cast<double>(depth) * u * terms[c] + u * (terms[c] + std::abs(old));
        REQUIRE(close.within(out[row * columns + c], expected[c] + old, off * (1 + 0x1p-10) + 0x1p-140));
      }
    }
    CHECK(std::all_of(out.end() - 4, out.end(), [](float each) { return std::isnan(each); }));
  }
  MESSAGE("off by at most " << close.worst() << " of what is allowed");
}

TEST_CASE("what is not finite in a row reaches all its products, and in a weight its column") {
  std::mt19937_64 random(30);
  for (std::uint64_t round = 0; round < 60; ++round) {
    CAPTURE(round);
    const ElementType type = types[round % 3];
    const std::size_t count = 3, columns = 40, depth = 20;
    auto x = random_values(count * depth, 1, random), w = random_values(columns * depth, 1, random);
    const bool of_row = round % 2 == 0;
    const std::size_t at = random() % (of_row ? x.size() : w.size());
    (of_row ? x : w)[at] = round % 4 < 2 ? no_number : infinity;
    const TypedValues rows(type, x), weights(type, w);
    std::vector<float> out(count * columns);
    run_grid(MultiplyWeights{{rows.data(), weights.data(), out.data(), count, columns, depth}, type}, {1, 32}, round);
    for (std::size_t i = 0; i < out.size(); ++i)
      CHECK(std::isfinite(out[i]) == ((of_row ? i / columns : i % columns) != at / depth));
  }
}

}  // namespace krul::cuda::test::layer_rows
