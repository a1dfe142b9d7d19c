#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>

#include "krul/backend/model_backend.hpp"
#include "krul/backend/owned_kv_rows.hpp"

namespace krul {

/// The capacity of a cache that grows with what it holds, whatever context a model declares: room for a reply as well,
/// in powers of two, as such sizes come again.
[[nodiscard]] constexpr std::size_t room_to_grow(std::size_t tokens, std::size_t most) noexcept {
  constexpr std::size_t least = 1024, reply = 64;
  return std::min(most, std::bit_ceil(std::max(tokens + reply, least)));
}

/// A cache of another capacity with the same committed rows.
/// @throws PreconditionError if the rows do not fit
/// @complexity a copy of all rows
template <ModelBackend B>
[[nodiscard]] typename B::Cache grown_cache(B& model, const typename B::Cache& from, std::size_t capacity) {
  expects(from.length() <= capacity, "grown_cache: the rows do not fit");
  typename B::Cache to = model.make_cache(capacity);
  const TokenRange all{0, from.length()};
  for (std::size_t layer = 0; layer < model.geometry().layers && !all.empty(); ++layer) {
    const OwnedKvRows rows = read_kv_rows(from, model.geometry(), layer, all);
    to.wait(to.write_kv(layer, all, rows.view()));
  }
  to.commit(from.length());
  return to;
}

}  // namespace krul
