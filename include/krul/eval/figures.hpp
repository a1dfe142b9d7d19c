#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "krul/core/error.hpp"

namespace krul::eval {

/// What was found: nothing where it could not be measured, yes or no, a count, a number, or a text.
using FigureValue = std::variant<std::monostate, bool, std::uint64_t, double, std::string>;

/// A value and what it is called, in files and tables alike.
struct Figure {
  std::string name;
  FigureValue value;
  friend bool operator==(const Figure&, const Figure&) = default;
};

/// In the order in which they are shown.
using Figures = std::vector<Figure>;

/// Nothing in place of what no number stands for.
[[nodiscard]] inline FigureValue finite_or_nothing(double value) {
  return std::isfinite(value) ? FigureValue(value) : FigureValue();
}

template <class Value>
[[nodiscard]] FigureValue value_or_nothing(const std::optional<Value>& value) {
  return value ? FigureValue(*value) : FigureValue();
}

/// The first ones, and the others behind them.
[[nodiscard]] inline Figures joined(Figures first, Figures others) {
  std::ranges::move(others, std::back_inserter(first));
  return first;
}

/// All but those of these names.
[[nodiscard]] inline Figures without(Figures figures, std::span<const std::string_view> names) {
  std::erase_if(figures, [&](const Figure& each) { return std::ranges::find(names, each.name) != names.end(); });
  return figures;
}

/// @throws PreconditionError if none has this name
[[nodiscard]] inline const FigureValue& value_of(const Figures& figures, std::string_view name) {
  const auto found = std::ranges::find(figures, name, &Figure::name);
  expects(found != figures.end(), "value_of: no figure has this name");
  return found->value;
}

}  // namespace krul::eval
