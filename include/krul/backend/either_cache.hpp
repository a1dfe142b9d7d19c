#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#include "krul/backend/either.hpp"
#include "krul/backend/kv_cache.hpp"
#include "krul/backend/lends_rows.hpp"
#include "krul/core/error.hpp"

namespace krul {

/// A cache of one of two backends. It lends its rows if the cache that it holds does: see lends_rows.
template <KvCache First, KvCache Second>
class EitherCache {
 public:
  /// @tparam I  0 or 1: of which backend
  template <std::size_t I, KvCache C>
  EitherCache(std::in_place_index_t<I> which, C cache) : held_(which, std::move(cache)) {}

  [[nodiscard]] std::size_t capacity() const {
    return held_.visit([](const auto& cache) { return cache.capacity(); });
  }
  [[nodiscard]] std::size_t length() const {
    return held_.visit([](const auto& cache) { return cache.length(); });
  }
  [[nodiscard]] const TokenSet& present(std::size_t layer) const {
    return held_.visit([&](const auto& cache) -> const TokenSet& { return cache.present(layer); });
  }
  Ticket write_kv(std::size_t layer, TokenRange tokens, KvRows from) {
    return held_.visit([&](auto& cache) { return cache.write_kv(layer, tokens, from); });
  }
  Ticket read_kv(std::size_t layer, TokenRange tokens, MutableKvRows to) const {
    return held_.visit([&](const auto& cache) { return cache.read_kv(layer, tokens, to); });
  }
  void wait(Ticket ticket) const {
    held_.visit([&](const auto& cache) { cache.wait(ticket); });
  }
  void commit(std::size_t count) {
    held_.visit([&](auto& cache) { cache.commit(count); });
  }
  void truncate(std::size_t count) {
    held_.visit([&](auto& cache) { cache.truncate(count); });
  }

  [[nodiscard]] bool lends_rows() const {
    return held_.visit([](const auto& cache) { return krul::lends_rows(cache); });
  }
  /// @throws PreconditionError, as mark_present does, if it does not lend its rows
  [[nodiscard]] MutableKvRows view(std::size_t layer) {
    return held_.visit([&](auto& cache) -> MutableKvRows {
      if constexpr (HostViewableCache<std::remove_reference_t<decltype(cache)>>) return cache.view(layer);
      throw PreconditionError("EitherCache: the cache that it holds does not lend its rows");
    });
  }
  void mark_present(std::size_t layer, TokenRange tokens) {
    held_.visit([&](auto& cache) {
      if constexpr (HostViewableCache<std::remove_reference_t<decltype(cache)>>)
        cache.mark_present(layer, tokens);
      else
        throw PreconditionError("EitherCache: the cache that it holds does not lend its rows");
    });
  }

  /// The cache of one of the backends.
  /// @throws PreconditionError if it is the other's
  template <std::size_t I>
  [[nodiscard]] auto& of() {
    return held_.template as<I>();
  }

 private:
  Either<First, Second> held_;
};

}  // namespace krul
