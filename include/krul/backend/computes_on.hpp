#pragma once

#include <concepts>

#include "krul/core/resource.hpp"

namespace krul {

/// Where a backend computes and its caches live: on the host's cores, unless it has a member
/// `static constexpr Resource computes_on = Resource::device`, or where that is known when a program runs, a member
/// function `Resource computes_on() const`.
template <class B>
[[nodiscard]] constexpr Resource computes_on(const B& model) {
  if constexpr (requires {
                  { model.computes_on() } -> std::same_as<Resource>;
                }) {
    return model.computes_on();
  } else if constexpr (requires { B::computes_on; }) {
    return B::computes_on;
  } else {
    return Resource::cores;
  }
}

}  // namespace krul
