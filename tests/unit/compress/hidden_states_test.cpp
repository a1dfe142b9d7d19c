#include "krul/compress/hidden_states.hpp"

#include <doctest/doctest.h>

#include <limits>

#include "../examples/02_your_own_backend/toy_backend.hpp"

namespace krul {
namespace {

HiddenStates of_value(const toy::Backend& model, std::size_t tokens, float value) {
  HiddenStates hidden(model.geometry());
  for (std::size_t layer = 0; layer < model.geometry().layers; ++layer)
    hidden.append(layer, std::vector<float>(tokens * model.geometry().hidden, value));
  return hidden;
}

TEST_CASE("a chunk of hidden states is two bytes a value, of the tokens that were asked for") {
  const toy::Backend model;
  HiddenStates hidden = of_value(model, 3, 1);
  const std::size_t row_bytes = 2 * model.geometry().hidden;
  CHECK(hidden.coding() == projected_coding);
  CHECK(hidden.rows() == 3);
  CHECK(hidden.encode(0, {1, 3}).size() == 2 * row_bytes);
  for (std::size_t layer = 0; layer < model.geometry().layers; ++layer)
    hidden.append(layer, std::vector<float>(model.geometry().hidden, 2));
  CHECK(hidden.rows() == 4);
  CHECK(hidden.encode(1, {2, 3}) != hidden.encode(1, {3, 4}));
  CHECK_THROWS_AS((void)of_value(model, 1, 1e6F).encode(0, {0, 1}), NotFiniteError);
}

TEST_CASE("of a chunk that was read, the leading tokens' values are used if they are there and finite") {
  const toy::Backend model;
  std::vector<std::byte> chunk = of_value(model, 3, 1).encode(0, {0, 3});
  const std::size_t row_bytes = 2 * model.geometry().hidden;
  CHECK(projected_values(model, chunk, {16, 19}).size() == 3 * row_bytes);
  CHECK(projected_values(model, chunk, {16, 18}).data() == chunk.data());
  CHECK(projected_values(model, chunk, {16, 20}).empty());
  chunk[2 * row_bytes + 1] = std::byte{0x7C};  // infinite, in the third token
  CHECK(projected_values(model, chunk, {0, 3}).empty());
  CHECK(projected_values(model, chunk, {0, 2}).size() == 2 * row_bytes);
}

TEST_CASE("rows that are there stay when others are projected") {
  toy::Backend model;
  const auto chunk = of_value(model, 2, 1).encode(0, {0, 2});
  auto cache = model.make_cache(8), all = model.make_cache(8);
  const ProjectedChunk both[] = {{{4, 6}, chunk}};
  project_chunks(model, all, 0, std::span(both));
  CHECK(all.present(0).contains({4, 6}));
  CHECK_FALSE(all.present(0).contains({0, 4}));
  const std::size_t row_bytes = model.geometry().kv_row_bytes();
  const std::vector<std::byte> own(row_bytes, std::byte{1});
  cache.wait(cache.write_kv(0, {5, 6}, {own, own}));
  project_chunks(model, cache, 0, std::span(both));
  const auto keys = cache.view(0).keys;
  CHECK(std::ranges::equal(keys.subspan(5 * row_bytes, row_bytes), own));
  CHECK(std::ranges::equal(keys.subspan(4 * row_bytes, row_bytes), all.view(0).keys.subspan(4 * row_bytes, row_bytes)));
  project_chunks(model, cache, 0, std::span<const ProjectedChunk>());  // nothing to do
}

}  // namespace
}  // namespace krul
