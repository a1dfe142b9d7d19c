#include "krul/eval/kvtc.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

#include "krul/compress/joint/block_rotation.hpp"
#include "support/history_samples.hpp"

namespace krul::eval {
namespace {

constexpr std::size_t features = 80;  // of history_geometry

/// Rows in the order of tokens, [T, L, G, D], keys without the rotary embedding.
std::vector<float> by_token(const Geometry& geometry, const HistoryRows& rows, bool keys) {
  const std::size_t width = geometry.kv_values();
  const krul::detail::BlockRotation rotation(geometry.rotary, 0, rows.tokens);
  std::vector<float> found;
  for (std::size_t token = 0; token < rows.tokens; ++token)
    for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
      const auto& from = keys ? rows.keys[layer] : rows.values[layer];
      std::vector<float> row(&from[token * width], &from[token * width] + width);
      if (keys) rotation.turn_back(token, row, geometry.head_dim);
      found.insert(found.end(), row.begin(), row.end());
    }
  return found;
}

std::shared_ptr<const KvtcBasis> fitted(const Geometry& geometry, const HistoryRows& rows, std::size_t rank) {
  Workers workers(2);
  KvMoments moments(geometry, 0, std::array{geometry.layers});
  const auto keys = by_token(geometry, rows, true), values = by_token(geometry, rows, false);
  moments.add(keys, values, {}, workers);
  return std::make_shared<const KvtcBasis>(fit_kvtc_basis({moments, keys, values}, rank, workers));
}

double squares(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  return sum;
}

TEST_CASE("directions are orthonormal, those of most variance first") {
  const Geometry geometry = testing::history_geometry();
  const auto basis = fitted(geometry, testing::history_rows(geometry, 300, 1), 20);
  for (const KvtcTensor* tensor : {&basis->keys, &basis->values}) {
    CHECK(tensor->rank() == 20);
    CHECK(tensor->features() == features);
    for (std::size_t a = 0; a < 20; ++a) {
      for (std::size_t b = 0; b <= a; ++b) {
        const float* left = &tensor->directions[a * features];
        const double product = std::inner_product(left, left + features, &tensor->directions[b * features], 0.0);
        // Each entry is rounded to f16, by 2^-11 of itself: the product of two unit vectors is off by 2^-10, and float
        // arithmetic adds less than as much again.
        CHECK(std::abs(product - (a == b ? 1 : 0)) <= 0x1p-9);
      }
      // Measured on what it was fitted to: equal up to the rounding of the directions, of the total variance.
      if (a > 0) CHECK(tensor->energies[a] <= tensor->energies[a - 1] + 0x1p-9F * tensor->energies[0]);
    }
  }
}

TEST_CASE("the plan is the best of all plans that fit the budget") {
  // Few components and one size of group that fits beside single ones: small enough to try everything.
  constexpr std::size_t rank = 4, choices = KvtcGroup::sizes.size() * KvtcGroup::widths.size();
  KvtcTensor tensor;
  tensor.energies = {100, 9, 4, 1};
  tensor.errors.assign(rank * choices, std::numeric_limits<float>::infinity());
  for (std::size_t i = 0; i < rank; ++i)
    for (std::size_t w = 0; w < KvtcGroup::widths.size(); ++w)
      tensor.errors[i * choices + w] = tensor.energies[i] / static_cast<float>(1U << (2 * KvtcGroup::widths[w]));
  const double all = 114;
  for (const std::size_t budget : {0, 33, 34, 40, 70, 78, 102, 160, 1000}) {
    // The best of all widths of all leading components.
    double best = all;
    for (std::size_t code = 0; code < 256; ++code) {  // two bits for each component: not coded, or one of three widths
      double error = 0;
      std::size_t cost = 0;
      bool leading = true;
      for (std::size_t i = 0; i < rank; ++i) {
        const std::size_t choice = (code >> (2 * i)) & 3U;
        if (choice == 0) leading = false;
        if (choice != 0 && !leading) cost = 100000;
        cost += choice == 0 ? 0 : KvtcGroup::widths[choice - 1] + 32;
        error += choice == 0 ? tensor.energies[i] : tensor.errors[i * choices + choice - 1];
      }
      if (cost <= budget) best = std::min(best, error);
    }
    double error = all;
    std::size_t cost = 0, at = 0;
    for (const KvtcGroup& group : kvtc_plan(tensor, budget)) {
      CHECK(group.size == 1);
      const auto w = static_cast<std::size_t>(std::countr_zero(group.bits)) - 1;
      error += tensor.errors[at * choices + w] - tensor.energies[at];
      cost += group.token_bits();
      ++at;
    }
    CHECK(cost <= budget);
    CHECK(error == doctest::Approx(best).epsilon(1e-5));  // sums of a few floats
  }
}

TEST_CASE("what KVTC leaves is what its calibration says, and what is kept comes back as it was") {
  const Geometry geometry = testing::history_geometry();
  const HistoryRows rows = testing::history_rows(geometry, 300, 1);
  const auto basis = fitted(geometry, rows, features);
  const KvtcCoder coder(basis, {.ratio = 4, .sinks = 0, .window = 0});
  CHECK(coder.name() == "kvtc-4-w0");
  const auto bytes = coder.encode(geometry, rows);
  std::size_t streams = 0, token_bits = 0;
  for (const auto* groups : {&coder.key_groups(), &coder.value_groups()})
    for (const KvtcGroup& group : *groups) {
      streams += 6;  // upper and lower bytes of two numbers, one or two of codes
      token_bits += group.token_bits();
    }
  CHECK(token_bits <= 2 * features * 16 / 4);
  CHECK(bytes.size() <= 4 + 300 * token_bits / 8 + streams * (4 + 1 + 1));  // length, form, and a byte begun
  const HistoryRows back = coder.decode(geometry, bytes);
  for (const bool keys : {true, false}) {
    const KvtcTensor& tensor = keys ? basis->keys : basis->values;
    double expected = 0;
    std::size_t at = 0;
    for (const KvtcGroup& group : keys ? coder.key_groups() : coder.value_groups()) {
      const auto size = static_cast<std::size_t>(
          std::find(KvtcGroup::sizes.begin(), KvtcGroup::sizes.end(), group.size) - KvtcGroup::sizes.begin());
      const auto width = static_cast<std::size_t>(std::countr_zero(group.bits)) - 1;
      expected += tensor.errors[(at * KvtcGroup::sizes.size() + size) * KvtcGroup::widths.size() + width];
      at += group.size;
    }
    for (; at < tensor.rank(); ++at) expected += tensor.energies[at];
    const double found = squares(by_token(geometry, rows, keys), by_token(geometry, back, keys)) / 300;
    // Coded is what was calibrated on; directions in f16 (2^-11 of each entry) move some of the energy.
    const double energy = std::accumulate(tensor.energies.begin(), tensor.energies.end(), 0.0);
    CHECK(std::abs(found - expected) <= 0x1p-8 * energy);
  }

  const KvtcCoder keeping(basis, {.ratio = 8, .window = 100});
  const HistoryRows kept = keeping.decode(geometry, keeping.encode(geometry, rows));
  const auto width = static_cast<std::ptrdiff_t>(geometry.kv_values());
  for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
    const auto &exact = rows.keys[layer], &found = kept.keys[layer];
    CHECK(std::equal(exact.begin(), exact.begin() + 4 * width, found.begin()));
    CHECK(std::equal(exact.begin() + 200 * width, exact.end(), found.begin() + 200 * width));
    CHECK(exact != found);
  }
  const HistoryRows few = testing::history_rows(geometry, 50, 2);
  CHECK(keeping.decode(geometry, keeping.encode(geometry, few)) == few);
}

TEST_CASE("a basis passes through a file") {
  const Geometry geometry = testing::history_geometry();
  const auto basis = fitted(geometry, testing::history_rows(geometry, 100, 1), 30);
  auto bytes = to_bytes(*basis);
  const auto back = kvtc_basis_from_bytes(bytes);
  REQUIRE(back);
  CHECK(*back == *basis);
  bytes.pop_back();
  CHECK(kvtc_basis_from_bytes(bytes).error().code == ErrorCode::corrupt);
  CHECK(kvtc_basis_from_bytes({}).error().code == ErrorCode::corrupt);
}

TEST_CASE("what does not belong together is the caller's mistake") {
  const Geometry geometry = testing::history_geometry();
  const HistoryRows rows = testing::history_rows(geometry, 100, 1);
  const auto basis = fitted(geometry, rows, 30);
  CHECK_THROWS_AS(KvtcCoder(nullptr, {}), PreconditionError);
  CHECK_THROWS_AS(KvtcCoder(basis, {.ratio = 0}), PreconditionError);
  const KvtcCoder coder(basis, {.window = 0});
  Geometry other = geometry;
  other.layers = 1;
  CHECK_THROWS_AS((void)coder.encode(other, HistoryRows(other, 10)), PreconditionError);
  CHECK_THROWS_AS((void)coder.encode(geometry, HistoryRows(other, 10)), PreconditionError);
  auto bytes = coder.encode(geometry, rows);
  CHECK_THROWS_AS((void)coder.decode(other, bytes), PreconditionError);
  bytes.push_back({});
  CHECK_THROWS_AS((void)coder.decode(geometry, bytes), PreconditionError);
  bytes.resize(bytes.size() - 2);
  CHECK_THROWS_AS((void)coder.decode(geometry, bytes), PreconditionError);

  Workers workers(1);
  const std::vector<float> samples(features);
  KvMoments moments(geometry, 0, std::array{geometry.layers}), in_two(geometry, 0, std::array{std::size_t{1}});
  const auto keys = by_token(geometry, rows, true), values = by_token(geometry, rows, false);
  for (KvMoments* each : {&moments, &in_two}) each->add(keys, values, {}, workers);
  CHECK_THROWS_AS((void)fit_kvtc_basis({in_two, samples, samples}, 4, workers), PreconditionError);
  CHECK_THROWS_AS((void)fit_kvtc_basis({moments, samples, samples}, features + 1, workers), PreconditionError);
  CHECK_THROWS_AS((void)fit_kvtc_basis({moments, samples, samples}, 0, workers), PreconditionError);
  CHECK_THROWS_AS((void)fit_kvtc_basis({moments, {}, {}}, 4, workers), PreconditionError);
}

}  // namespace
}  // namespace krul::eval
