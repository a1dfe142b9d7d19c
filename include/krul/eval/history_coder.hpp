#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "krul/backend/kv_cache.hpp"
#include "krul/backend/owned_kv_rows.hpp"
#include "krul/core/error.hpp"
#include "krul/core/geometry.hpp"
#include "krul/core/half.hpp"

namespace krul::eval {

/// K and V of a whole history as floats, keys as the cache holds them: after the rotary embedding.
struct HistoryRows {
  std::size_t tokens = 0;
  std::vector<std::vector<float>> keys, values;  ///< [L][N, G, D]

  HistoryRows() = default;
  HistoryRows(const Geometry& geometry, std::size_t count)
      : tokens(count),
        keys(geometry.layers, std::vector<float>(count * geometry.kv_values())),
        values(geometry.layers, std::vector<float>(count * geometry.kv_values())) {}
  friend bool operator==(const HistoryRows&, const HistoryRows&) = default;
};

/// Codes the rows of a whole history into bytes and back, as somebody else has published it. For comparison only: the
/// bytes are never stored, so they carry no checks. All that decoding takes is in them, but for what is the same for
/// every conversation of a model.
///
///   encode(geometry, rows)    everything of one conversation
///   decode(geometry, bytes)   what encode coded, with the coder's error
template <class C>
concept HistoryCoder = requires(const C& coder, const Geometry& geometry, const HistoryRows& rows,
                                std::span<const std::byte> bytes) {
  { coder.name() } -> std::convertible_to<std::string>;
  { coder.encode(geometry, rows) } -> std::same_as<std::vector<std::byte>>;
  { coder.decode(geometry, bytes) } -> std::same_as<HistoryRows>;
};

/// A cache's first rows.
/// @throws as the source's read_kv
template <KvSource Source>
[[nodiscard]] HistoryRows read_history(const Source& source, const Geometry& geometry, std::size_t tokens) {
  HistoryRows rows(geometry, tokens);
  for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
    const OwnedKvRows bytes = read_kv_rows(source, geometry, layer, {0, tokens});
    to_float(geometry.cache_type, bytes.keys, rows.keys[layer]);
    to_float(geometry.cache_type, bytes.values, rows.values[layer]);
  }
  return rows;
}

/// Writes them into a cache, and commits them.
/// @throws as the cache's write_kv
template <KvCache Cache>
void write_history(Cache& cache, const Geometry& geometry, const HistoryRows& rows) {
  OwnedKvRows bytes(geometry, rows.tokens);
  for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
    from_float(geometry.cache_type, rows.keys[layer], bytes.keys);
    from_float(geometry.cache_type, rows.values[layer], bytes.values);
    cache.wait(cache.write_kv(layer, {0, rows.tokens}, std::as_const(bytes).view()));
  }
  cache.commit(rows.tokens);
}

/// @throws PreconditionError unless the rows are [L][N, G, D]
inline void expects_history(const Geometry& geometry, const HistoryRows& rows) {
  expects(rows.keys.size() == geometry.layers && rows.values.size() == geometry.layers,
          "HistoryCoder: rows of every layer");
  for (std::size_t layer = 0; layer < geometry.layers; ++layer)
    expects(rows.keys[layer].size() == rows.tokens * geometry.kv_values() &&
                rows.values[layer].size() == rows.keys[layer].size(),
            "HistoryCoder: rows of every token");
}

}  // namespace krul::eval
