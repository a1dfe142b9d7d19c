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

void check_received(const RowAttention& attention, const Observed& seen, std::size_t end, std::size_t passes,
                    std::size_t first_query = 0) {
  std::size_t first_layer = 0;
  REQUIRE(attention.rows == end);
  for (std::size_t band = 0; band < attention.bands(); ++band) {
    const std::size_t layers = attention.band_layers[band];
    for (std::size_t key = 0; key < end; ++key) {
      const double expected = reference::received(
          seen.exact, key, end, {first_layer, layers, seen.heads, RowAttention::half_life, first_query});
      // A row's cells that are left out, in the mean over rows.
      const double n = static_cast<double>(RowAttentionEstimator::layers_apart * layers * seen.heads),
                   left_out = n * 0x1p-24;
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
    RowAttentionEstimator shown(seen.geometry(), {2, 3}), written(seen.geometry(), {2, 3});
    copy.show_all(shown, 0, 300, rows, 16);
    copy.write_all(written, 0, 300, rows);
    check_received(shown.attention(), seen, 300, (300 + rows - 1) / rows);
    check_received(written.attention(), seen, 300, (300 + rows - 1) / rows);
  }
}

TEST_CASE("of a pass whose end is known only the last rows are looked at") {
  constexpr std::size_t end = 300, most = RowAttentionEstimator::most_counted;
  for (const std::size_t rows : {300, 90, 7}) {
    CAPTURE(rows);
    Observed seen(5, 2, end);
    RowAttentionEstimator shown(seen.geometry(), {2, 3}), written(seen.geometry(), {2, 3});
    for (auto* estimator : {&shown, &written}) {
      estimator->observe_until(end);
      std::size_t wanted = 0;
      for (Position query = 0; query < end; ++query) wanted += estimator->wants(query) ? 1 : 0;
      CHECK(wanted == most);
    }
    seen.show_all(shown, 0, end, rows, 16);
    seen.write_all(written, 0, end, rows);
    check_received(shown.attention(), seen, end, (end + rows - 1) / rows, end - most);
    check_received(written.attention(), seen, end, (end + rows - 1) / rows, end - most);
    CHECK(written.wants(end));  // what is decoded behind it counts row by row
    written.observe_until(most / 2);
    CHECK(written.wants(0));
  }
}

TEST_CASE("a conversation that goes on adds to what was seen, and forgets what it takes back") {
  Observed seen(4, 2, 200);
  RowAttentionEstimator whole(seen.geometry(), {4}), first(seen.geometry(), {4}), later(seen.geometry(), {4});
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
  RowAttentionEstimator others(seen.geometry(), {1, 3});
  others.load(first.attention());
  CHECK(others.attention().rows == 0);
}

TEST_CASE("pieces are as long as there is room for the weights, and never empty") {
  Geometry geometry = test::observed_geometry(2, 1);
  CHECK(RowAttentionEstimator(geometry, {2}).block_rows() == 2048);
  geometry.query_heads = 4096;
  RowAttentionEstimator wide(geometry, {2});
  CHECK(wide.block_rows() >= 1);
  CHECK(wide.block_rows() < 10);
  wide.observe_until(1000);  // rows that are not looked at need no room
  CHECK(wide.block_rows() >= 1000 - RowAttentionEstimator::most_counted);
  CHECK(wide.block_rows() < 1000);
}

TEST_CASE("bands are a model's layers, and blocks are its own") {
  const Geometry geometry = test::observed_geometry(4, 2);
  CHECK_THROWS_AS(RowAttentionEstimator(geometry, {3}), PreconditionError);
  RowAttentionEstimator estimator(geometry, {4});
  const Position queries[] = {0};
  const std::vector<float> weights(2, 1.0F);
  CHECK_THROWS_AS(estimator(AttentionBlock{0, queries, 1, 3, weights}), PreconditionError);
  CHECK_THROWS_AS(estimator(AttentionBlock{4, queries, 1, 2, weights}), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(estimator.lend(4, queries)), PreconditionError);
}
