#include "krul/eval/q4_0.hpp"

#include <doctest/doctest.h>

#include "support/history_samples.hpp"

namespace krul::eval {
namespace {

TEST_CASE("q4_0 is off by one scale at most, and the largest value of a block by what f16 rounds") {
  const Geometry geometry = testing::history_geometry();
  const HistoryRows rows = testing::history_rows(geometry, 6, 1);
  const Q40Coder coder;
  const auto bytes = coder.encode(geometry, rows);
  // A row of 40 values is a block of 32 and one of 8: 2 + 16 and 2 + 4 bytes. Two layers, K and V.
  CHECK(bytes.size() == 4 + 2 * 2 * 6 * (18 + 6));
  const HistoryRows back = coder.decode(geometry, bytes);
  for (std::size_t layer = 0; layer < geometry.layers; ++layer)
    for (std::size_t first = 0; first < rows.keys[layer].size(); first += first % 40 == 0 ? 32 : 8) {
      const std::size_t count = first % 40 == 0 ? 32 : 8;
      const auto largest = [&](const std::vector<float>& values) {
        float found = 0;
        for (std::size_t i = first; i < first + count; ++i)
          if (std::abs(values[i]) > std::abs(found)) found = values[i];
        return found;
      };
      const float extreme = largest(rows.keys[layer]), scale = std::abs(extreme) / 8;
      // The scale is rounded by 2^-11 of itself, and a code is -8 to 7 of them.
      for (std::size_t i = first; i < first + count; ++i)
        CHECK(std::abs(back.keys[layer][i] - rows.keys[layer][i]) <= scale * (1 + 8 * 0x1p-11F));
      CHECK(std::abs(largest(back.keys[layer]) - extreme) <= std::abs(extreme) * 0x1p-11F);
    }
  const HistoryRows nothing(geometry, 2);
  CHECK(coder.decode(geometry, coder.encode(geometry, nothing)) == nothing);
}

TEST_CASE("rows and bytes of another length are the caller's mistake") {
  const Geometry geometry = testing::history_geometry();
  HistoryRows rows = testing::history_rows(geometry, 2, 1);
  const Q40Coder coder;
  auto bytes = coder.encode(geometry, rows);
  bytes.push_back({});
  CHECK_THROWS_AS((void)coder.decode(geometry, bytes), PreconditionError);
  bytes.resize(bytes.size() - 2);
  CHECK_THROWS_AS((void)coder.decode(geometry, bytes), PreconditionError);
  rows.keys.pop_back();
  CHECK_THROWS_AS((void)coder.encode(geometry, rows), PreconditionError);
}

}  // namespace
}  // namespace krul::eval
