#include "krul/similarity/row_attention_estimator.hpp"

#include <doctest/doctest.h>

#include "krul/reference/row_attention.hpp"
#include "samples.hpp"

using namespace krul;
using krul::test::Observed;

namespace {

/// A sum of squares of n weights in f32, each as a bf16 that is within 2^-9 of itself times a factor of f32, decayed in
/// f32 once a pass: off by that much of itself. Cells that are left out hold squares below 2^-24 each.
double allowed(double expected, std::size_t n, std::size_t passes) {
  return expected * (2 * 0x1p-8 + static_cast<double>(n + passes + 4) * 0x1p-24);
}

void check_received(const RowAttention& attention, const Observed& seen, std::size_t end, std::size_t passes) {
  std::size_t first_layer = 0;
  REQUIRE(attention.rows == end);
  for (std::size_t band = 0; band < attention.bands(); ++band) {
    const std::size_t layers = attention.band_layers[band];
    for (std::size_t key = 0; key < end; ++key) {
      const double expected =
          reference::received(seen.exact, key, end, {first_layer, layers, seen.heads, RowAttention::half_life});
      // A row's cells that are left out, in the mean over rows.
      const double n = static_cast<double>(layers * seen.heads), left_out = n * 0x1p-24;
      REQUIRE(std::abs(attention.received(band, key) - expected) <=
              allowed(expected, layers * seen.heads * end, passes) + left_out);
    }
    first_layer += layers;
  }
}

}  // namespace

TEST_CASE("what rows receive is that of the twin, shown or written, however rows are cut") {
  const Observed seen(5, 2, 300);
  for (const std::size_t rows : {300, 64, 7}) {
    CAPTURE(rows);
    Observed copy = seen;
    RowAttentionEstimator shown(seen.geometry(), {2, 3}, 1), written(seen.geometry(), {2, 3}, 1);
    copy.show_all(shown, 0, 300, rows, 16);
    copy.write_all(written, 0, 300, rows);
    check_received(shown.attention(), seen, 300, (300 + rows - 1) / rows);
    check_received(written.attention(), seen, 300, (300 + rows - 1) / rows);
  }
}

TEST_CASE("some rows stand for all") {
  Observed seen(3, 4, 400);
  RowAttentionEstimator all(seen.geometry(), {3}, 1), some(seen.geometry(), {3}, 4);
  seen.write_all(all, 0, 400, 100);
  seen.write_all(some, 0, 400, 100);
  std::size_t wanted = 0;
  for (Position query = 0; query < 400; ++query) wanted += some.wants(query) ? 1 : 0;
  CHECK(wanted == 100);
  CHECK(some.attention().counted == doctest::Approx(all.attention().counted).epsilon(0.5));
  // Each key's sum is one of a quarter of as many terms: the sums of all keys differ by far less than each.
  double exact = 0, drawn = 0;
  for (std::size_t key = 1; key < 400; ++key) {
    exact += all.attention().received(0, key);
    drawn += some.attention().received(0, key);
  }
  CHECK(drawn == doctest::Approx(exact).epsilon(0.1));
}

TEST_CASE("a conversation that goes on adds to what was seen, and forgets what it takes back") {
  Observed seen(4, 2, 200);
  RowAttentionEstimator whole(seen.geometry(), {4}, 1), first(seen.geometry(), {4}, 1), later(seen.geometry(), {4}, 1);
  seen.write_all(whole, 0, 200, 50);
  seen.write_all(first, 0, 120, 40);
  later.load(first.attention());
  later.observe_from(120);
  seen.write_all(later, 120, 200, 40);
  for (std::size_t key = 0; key < 200; ++key)
    CHECK(later.attention().received(0, key) == doctest::Approx(whole.attention().received(0, key)).epsilon(1e-5));

  later.observe_from(80);
  CHECK(later.attention().rows == 80);
  seen.write_all(later, 80, 100, 20);
  CHECK(later.attention().rows == 100);
  RowAttentionEstimator others(seen.geometry(), {1, 3}, 1);
  others.load(first.attention());
  CHECK(others.attention().rows == 0);
}

TEST_CASE("pieces are as long as there is room for the weights, and never empty") {
  Geometry geometry = test::observed_geometry(2, 1);
  CHECK(RowAttentionEstimator(geometry, {2}).block_rows() == 2048);
  geometry.query_heads = 4096;
  RowAttentionEstimator wide(geometry, {2}, 1);
  CHECK(wide.block_rows() >= 1);
  CHECK(wide.block_rows() < 10);
}

TEST_CASE("bands are a model's layers, and blocks are its own") {
  const Geometry geometry = test::observed_geometry(4, 2);
  CHECK_THROWS_AS(RowAttentionEstimator(geometry, {3}), PreconditionError);
  CHECK_THROWS_AS(RowAttentionEstimator(geometry, {4}, 0), PreconditionError);
  RowAttentionEstimator estimator(geometry, {4});
  const Position queries[] = {0};
  const std::vector<float> weights(2, 1.0F);
  CHECK_THROWS_AS(estimator(AttentionBlock{0, queries, 1, 3, weights}), PreconditionError);
  CHECK_THROWS_AS(estimator(AttentionBlock{4, queries, 1, 2, weights}), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(estimator.lend(4, queries)), PreconditionError);
}
