#pragma once

#include <concepts>

#include "krul/core/workers.hpp"

namespace krul {

/// A backend whose team of threads others may use between its passes. On few cores a second team would be in the way:
/// while one spins for its next loop, the other's threads are not run.
template <class B>
concept LendsWorkers = requires(B& model) {
  { model.workers() } -> std::same_as<Workers&>;
};

}  // namespace krul
