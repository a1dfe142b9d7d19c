#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>
#include <variant>

#include "krul/core/error.hpp"

namespace krul {

/// One thing of two kinds, which may be the same type.
template <class First, class Second>
class Either {
 public:
  /// @tparam I  0 or 1: of which kind it is
  template <std::size_t I, class T>
  Either(std::in_place_index_t<I> kind, T&& held) : held_(kind, std::forward<T>(held)) {}

  [[nodiscard]] std::size_t kind() const noexcept { return held_.index(); }

  /// @throws PreconditionError if it is of the other kind
  template <std::size_t I>
  [[nodiscard]] auto& as() {
    auto* const found = std::get_if<I>(&held_);
    expects(found != nullptr, "Either: it belongs to the other backend");
    return *found;
  }

  /// What `use` makes of what is held.
  template <class Use>
  decltype(auto) visit(Use&& use) {
    return std::visit(std::forward<Use>(use), held_);
  }
  template <class Use>
  decltype(auto) visit(Use&& use) const {
    return std::visit(std::forward<Use>(use), held_);
  }

 private:
  std::variant<First, Second> held_;
};

}  // namespace krul
