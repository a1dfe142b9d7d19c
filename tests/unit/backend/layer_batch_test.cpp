// Which rows stay is checked by tests/conformance; here, that activations move with them.
#include <doctest/doctest.h>

#include <krul/backend/layer_batch.hpp>
#include <random>

using krul::HostLayerBatch;
using krul::Position;
using krul::RowRange;

namespace {

const krul::Geometry small_geometry{.query_heads = 2, .head_dim = 3, .hidden = 5};

/// Every activation says which position it belongs to, and where in its row it stands.
float mark(Position position, std::size_t column, float kind) {
  return static_cast<float>(position) * 100 + static_cast<float>(column) + kind / 4;
}
void fill(HostLayerBatch& batch) {
  for (std::size_t row = 0; row < batch.rows(); ++row) {
    for (std::size_t i = 0; i < 5; ++i) batch.hidden()[row * 5 + i] = mark(batch.positions()[row], i, 0);
    for (std::size_t i = 0; i < 6; ++i) {
      batch.queries()[row * 6 + i] = mark(batch.positions()[row], i, 1);
      batch.attention()[row * 6 + i] = mark(batch.positions()[row], i, 2);
    }
  }
}
bool is_filled(HostLayerBatch& batch) {
  bool right = batch.hidden().size() == batch.rows() * 5 && batch.queries().size() == batch.rows() * 6 &&
               batch.attention().size() == batch.rows() * 6;
  for (std::size_t row = 0; row < batch.rows(); ++row) {
    for (std::size_t i = 0; i < 5; ++i) right &= batch.hidden()[row * 5 + i] == mark(batch.positions()[row], i, 0);
    for (std::size_t i = 0; i < 6; ++i) {
      right &= batch.queries()[row * 6 + i] == mark(batch.positions()[row], i, 1);
      right &= batch.attention()[row * 6 + i] == mark(batch.positions()[row], i, 2);
    }
  }
  return right;
}

}  // namespace

TEST_CASE("keep moves every activation with its row, for random rows") {
  std::mt19937 random(1);
  HostLayerBatch batch(small_geometry);
  for (int round = 0; round < 200; ++round) {
    std::vector<Position> positions;
    for (Position position = 0; position < 30; ++position)
      if (random() % 2 == 0) positions.push_back(position);
    batch.assign(positions);
    fill(batch);
    for (int again = 0; again < 3; ++again) {
      std::vector<RowRange> ranges;
      std::vector<Position> left;
      for (std::size_t row = 0; row < batch.rows(); ++row) {
        if (random() % 3 == 0) continue;
        left.push_back(batch.positions()[row]);
        if (!ranges.empty() && ranges.back().end == row)
          ++ranges.back().end;
        else
          ranges.push_back({row, row + 1});
      }
      batch.keep(ranges);
      REQUIRE(std::ranges::equal(batch.positions(), left));
      REQUIRE(is_filled(batch));
    }
  }
}

TEST_CASE("rows of several caches keep their runs") {
  HostLayerBatch batch(small_geometry);
  batch.assign(std::vector<Position>{1, 4});
  CHECK(std::ranges::equal(batch.runs(), std::vector<RowRange>{{0, 2}}));
  const std::vector<Position> positions{7, 8, 9, 2, 0, 8};
  batch.assign_runs(positions, std::vector<RowRange>{{0, 3}, {3, 4}, {4, 4}, {4, 6}});
  fill(batch);
  batch.keep(std::vector<RowRange>{{1, 3}, {5, 6}});
  CHECK(std::ranges::equal(batch.positions(), std::vector<Position>{8, 9, 8}));
  CHECK(std::ranges::equal(batch.runs(), std::vector<RowRange>{{0, 2}, {2, 2}, {2, 2}, {2, 3}}));
  CHECK(is_filled(batch));
  for (const auto& runs : {std::vector<RowRange>{{0, 3}, {3, 5}}, {{0, 3}, {4, 6}}, {{0, 4}, {4, 6}}, {{0, 3}, {3, 7}}})
    CHECK_THROWS_AS(batch.assign_runs(positions, runs), krul::PreconditionError);
}

TEST_CASE("positions that do not ascend and rows outside of the batch are refused") {
  HostLayerBatch batch(small_geometry);
  CHECK_THROWS_AS(batch.assign(std::vector<Position>{1, 1}), krul::PreconditionError);
  batch.assign(std::vector<Position>{4, 9});
  CHECK_THROWS_AS(batch.keep(std::vector<RowRange>{{0, 3}}), krul::PreconditionError);
  CHECK_THROWS_AS(batch.keep(std::vector<RowRange>{{1, 2}, {0, 1}}), krul::PreconditionError);
}
