#include "krul/eval/kivi.hpp"

#include <doctest/doctest.h>

#include "support/history_samples.hpp"

namespace krul::eval {
namespace {

/// The largest error of a group of `count` values that lie `stride` apart, over the bound of its own ends.
double worst_of(const std::vector<float>& exact, const std::vector<float>& back, std::size_t first,
                std::pair<std::size_t, std::size_t> stride_count, unsigned bits) {
  const auto [stride, count] = stride_count;
  float low = exact[first], high = low, worst = 0;
  for (std::size_t i = 0; i < count; ++i) {
    low = std::min(low, exact[first + i * stride]);
    high = std::max(high, exact[first + i * stride]);
    worst = std::max(worst, std::abs(exact[first + i * stride] - back[first + i * stride]));
  }
  // Half a step; the zero and the step in f16 move the ends by 2^-11 of the zero and of the range.
  const float bound =
      (high - low) / static_cast<float>((1U << bits) - 1) / 2 + 2 * (std::abs(low) + (high - low)) * 0x1p-11F;
  return worst / bound;
}

TEST_CASE("KIVI is off by half a step, of a channel's 32 tokens in keys and of a token's 32 channels in values") {
  const Geometry geometry = testing::history_geometry();
  constexpr std::size_t tokens = 110, width = 40;  // 78 tokens before the last 32: two groups of keys and a rest of 14
  const HistoryRows rows = testing::history_rows(geometry, tokens, 1);
  for (const unsigned bits : {2U, 3U, 4U}) {
    const KiviCoder coder(bits);
    CHECK(coder.name() == "kivi-" + std::to_string(bits));
    const auto bytes = coder.encode(geometry, rows);
    const std::size_t keys = 2 * width * (4 + 32 * bits / 8) + (tokens - 64) * width * 2;
    const std::size_t values = 78 * (4 + 32 * bits / 8 + 4 + bits) + 32 * width * 2;
    CHECK(bytes.size() == 4 + 2 * (keys + values));
    const HistoryRows back = coder.decode(geometry, bytes);
    for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
      const auto &k = rows.keys[layer], &v = rows.values[layer];
      for (std::size_t channel = 0; channel < width; ++channel)
        for (const std::size_t token : {0, 32})
          CHECK(worst_of(k, back.keys[layer], token * width + channel, {width, 32}, bits) <= 1);
      for (std::size_t token = 0; token < 78; ++token) {
        CHECK(worst_of(v, back.values[layer], token * width, {1, 32}, bits) <= 1);
        CHECK(worst_of(v, back.values[layer], token * width + 32, {1, 8}, bits) <= 1);
      }
      CHECK(std::equal(k.begin() + 64 * width, k.end(), back.keys[layer].begin() + 64 * width));
      CHECK(std::equal(v.begin() + 78 * width, v.end(), back.values[layer].begin() + 78 * width));
    }
  }
  const HistoryRows few = testing::history_rows(geometry, 20, 2);
  CHECK(KiviCoder(2).decode(geometry, KiviCoder(2).encode(geometry, few)) == few);
}

TEST_CASE("bits, rows and bytes that cannot be are the caller's mistake") {
  const Geometry geometry = testing::history_geometry();
  CHECK_THROWS_AS(KiviCoder(0), PreconditionError);
  CHECK_THROWS_AS(KiviCoder(9), PreconditionError);
  const KiviCoder coder(4);
  HistoryRows rows = testing::history_rows(geometry, 70, 1);
  auto bytes = coder.encode(geometry, rows);
  bytes.push_back({});
  CHECK_THROWS_AS((void)coder.decode(geometry, bytes), PreconditionError);
  bytes.resize(bytes.size() - 2);
  CHECK_THROWS_AS((void)coder.decode(geometry, bytes), PreconditionError);
  rows.values[0].pop_back();
  CHECK_THROWS_AS((void)coder.encode(geometry, rows), PreconditionError);
}

}  // namespace
}  // namespace krul::eval
