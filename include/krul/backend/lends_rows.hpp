#pragma once

#include <concepts>

#include "krul/backend/kv_cache.hpp"

namespace krul {

/// Whether a cache lends its rows: as its type says (HostViewableCache), unless it has a member function
/// `bool lends_rows() const`, because that is known only when a program runs. If not, view must not be called.
template <KvCache C>
[[nodiscard]] constexpr bool lends_rows(const C& cache) {
  if constexpr (!HostViewableCache<C>) {
    return false;
  } else if constexpr (requires {
                         { cache.lends_rows() } -> std::same_as<bool>;
                       }) {
    return cache.lends_rows();
  } else {
    return true;
  }
}

}  // namespace krul
