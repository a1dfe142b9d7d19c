#include "krul/backend/kv_snapshot.hpp"

#include <doctest/doctest.h>

#include "../examples/02_your_own_backend/toy_backend.hpp"
#include "krul/backend/forward.hpp"
#include "support/toy_conversation.hpp"

namespace krul {
namespace {

TEST_CASE("a snapshot keeps the rows as they were") {
  toy::Backend model{ElementType::f32};
  const Geometry& geometry = model.geometry();
  auto run = test::run_through(model, test::toy_tokens(20));
  const KvSnapshot snapshot(geometry, run.cache, 12);
  CHECK(snapshot.length() == 20);

  const std::size_t row = geometry.kv_row_bytes();
  std::vector<std::byte> keys(5 * row), values(5 * row), old_keys(5 * row), old_values(5 * row);
  for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
    run.cache.wait(run.cache.read_kv(layer, {13, 18}, {old_keys, old_values}));
    run.cache.wait(run.cache.write_kv(layer, {13, 18}, {values, keys}));  // something else
    snapshot.wait(snapshot.read_kv(layer, {13, 18}, {keys, values}));
    CHECK(keys == old_keys);
    CHECK(values == old_values);
  }
  snapshot.wait(snapshot.read_kv(0, {20, 20}, {}));
  CHECK(KvSnapshot::bytes(geometry, 8) == 2 * geometry.layers * 8 * row);
}

TEST_CASE("rows that were not copied are refused") {
  toy::Backend model{ElementType::f32};
  const auto run = test::run_through(model, test::toy_tokens(20));
  CHECK_THROWS_AS(KvSnapshot(model.geometry(), run.cache, 21), PreconditionError);
  const KvSnapshot snapshot(model.geometry(), run.cache, 12);
  std::vector<std::byte> keys(model.geometry().kv_row_bytes()), values(keys.size());
  CHECK_THROWS_AS(snapshot.read_kv(0, {11, 12}, {keys, values}), PreconditionError);
  CHECK_THROWS_AS(snapshot.read_kv(0, {20, 21}, {keys, values}), PreconditionError);
  CHECK_THROWS_AS(snapshot.read_kv(model.geometry().layers, {12, 13}, {keys, values}), PreconditionError);
  CHECK_THROWS_AS(snapshot.read_kv(0, {12, 14}, {keys, values}), PreconditionError);
}

}  // namespace
}  // namespace krul
