#pragma once

#include <utility>

#include "krul/core/error.hpp"
#include "krul/core/finite.hpp"

namespace krul {

/// step(), a Result or a Status, or the error that a backend threw: its numbers are not finite, or what computes has
/// failed. Mistakes of the caller's stay exceptions.
template <class Step>
[[nodiscard]] auto guarded(Step&& step) -> decltype(step()) {
  try {
    return step();
  } catch (const NotFiniteError& error) {
    return fail(ErrorCode::backend, error.what());
  } catch (const ResultError& error) {
    return tl::unexpected<Error>(error.error);
  }
}

/// The same, and undo() before a failure leaves it, as an error or as an exception.
template <class Undo, class Step>
[[nodiscard]] auto guarded(Undo&& undo, Step&& step) -> decltype(step()) {
  try {
    auto result = guarded(std::forward<Step>(step));
    if (!result) undo();
    return result;
  } catch (...) {
    undo();
    throw;
  }
}

}  // namespace krul
