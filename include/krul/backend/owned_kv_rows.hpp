#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "krul/backend/kv_cache.hpp"
#include "krul/core/finite.hpp"
#include "krul/core/geometry.hpp"

namespace krul {

/// Rows of K and of V of one layer with memory of their own: [T, G, D] each, in the cache's element type.
struct OwnedKvRows {
  std::vector<std::byte> keys;
  std::vector<std::byte> values;

  OwnedKvRows() = default;
  OwnedKvRows(const Geometry& geometry, std::size_t tokens)
      : keys(tokens * geometry.kv_row_bytes()), values(keys.size()) {}

  [[nodiscard]] KvRows view() const noexcept { return {keys, values}; }
  [[nodiscard]] MutableKvRows view() noexcept { return {keys, values}; }
  friend bool operator==(const OwnedKvRows&, const OwnedKvRows&) = default;
};

/// A copy of rows of a cache, there when the call returns.
/// @throws as the source's read_kv
template <KvSource Source>
[[nodiscard]] OwnedKvRows read_kv_rows(const Source& source, const Geometry& geometry, std::size_t layer,
                                       TokenRange tokens) {
  OwnedKvRows rows(geometry, tokens.size());
  source.wait(source.read_kv(layer, tokens, rows.view()));
  return rows;
}

/// Whether every value of K and V is finite.
[[nodiscard]] inline bool are_finite(ElementType type, KvRows rows) noexcept {
  return are_finite(type, rows.keys) && are_finite(type, rows.values);
}

/// The same as read_kv_rows for whoever codes the rows.
/// @throws NotFiniteError that names layer and tokens if a value is not finite: no coding means anything then
template <KvSource Source>
[[nodiscard]] OwnedKvRows read_finite_kv_rows(const Source& source, const Geometry& geometry, std::size_t layer,
                                              TokenRange tokens) {
  OwnedKvRows rows = read_kv_rows(source, geometry, layer, tokens);
  if (!are_finite(geometry.cache_type, rows.view()))
    throw NotFiniteError("K or V of layer " + std::to_string(layer) + ", tokens " + std::to_string(tokens.begin) +
                         " to " + std::to_string(tokens.end - 1) +
                         ", are not finite: the model's weights are damaged, or too large for a cache of " +
                         std::string(name(geometry.cache_type)));
  return rows;
}

/// Read-only views of several layers' rows, as codings take them.
[[nodiscard]] inline std::vector<KvRows> views_of(const std::vector<OwnedKvRows>& layers) {
  std::vector<KvRows> views;
  for (const OwnedKvRows& rows : layers) views.push_back(rows.view());
  return views;
}
void views_of(std::vector<OwnedKvRows>&&) = delete;  // they would outlive the rows

}  // namespace krul
