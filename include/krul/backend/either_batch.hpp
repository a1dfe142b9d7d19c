#pragma once

#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>

#include "krul/backend/either.hpp"
#include "krul/backend/layer_batch.hpp"
#include "krul/backend/lends_hidden_states.hpp"
#include "krul/core/error.hpp"

namespace krul {

/// A batch of one of two backends.
template <LayerBatch First, LayerBatch Second>
class EitherBatch {
 public:
  /// @tparam I  0 or 1: of which backend
  template <std::size_t I, LayerBatch B>
  EitherBatch(std::in_place_index_t<I> which, B batch) : held_(which, std::move(batch)) {}

  void assign(std::span<const Position> positions) {
    held_.visit([&](auto& batch) { batch.assign(positions); });
  }
  [[nodiscard]] std::span<const Position> positions() const {
    return held_.visit([](const auto& batch) { return batch.positions(); });
  }
  void keep(std::span<const RowRange> rows) {
    held_.visit([&](auto& batch) { batch.keep(rows); });
  }
  /// Where both backends' batches lend them.
  [[nodiscard]] std::span<float> hidden() requires LendsHiddenStates<First> && LendsHiddenStates<Second> {
    return held_.visit([](auto& batch) -> std::span<float> { return batch.hidden(); });
  }
  /// Of rows of several caches: see BatchesCaches.
  /// @throws PreconditionError if the batch that it holds has no such rows
  void assign_runs(std::span<const Position> positions, std::span<const RowRange> runs) {
    held_.visit([&](auto& batch) {
      if constexpr (requires { batch.assign_runs(positions, runs); })
        batch.assign_runs(positions, runs);
      else
        throw PreconditionError("EitherBatch: the batch that it holds has rows of one cache only");
    });
  }

  /// The batch of one of the backends.
  /// @throws PreconditionError if it is the other's
  template <std::size_t I>
  [[nodiscard]] auto& of() {
    return held_.template as<I>();
  }

 private:
  Either<First, Second> held_;
};

}  // namespace krul
