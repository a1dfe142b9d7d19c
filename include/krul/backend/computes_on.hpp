#pragma once

#include "krul/core/resource.hpp"

namespace krul {

/// Where a backend computes and its caches live: on the host's cores, unless it has a member
/// `static constexpr Resource computes_on = Resource::device`.
template <class B>
inline constexpr Resource computes_on = [] {
  if constexpr (requires { B::computes_on; }) {
    return B::computes_on;
  } else {
    return Resource::cores;
  }
}();

}  // namespace krul
