#pragma once

#include <concepts>
#include <span>

namespace krul {

/// A batch that lends its hidden states, [R, hidden]: what it takes to begin a pass in the middle of a model.
template <class B>
concept LendsHiddenStates = requires(B& batch) {
  { batch.hidden() } -> std::convertible_to<std::span<float>>;
};

}  // namespace krul
