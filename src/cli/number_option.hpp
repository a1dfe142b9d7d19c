#pragma once

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace krul::cli {

/// The decimal number that a text holds, and nothing else: neither NaN, nor infinity, nor what its type cannot hold.
template <class Number>
requires std::integral<Number> || std::floating_point<Number>
[[nodiscard]] std::optional<Number> parse_number(std::string_view text) {
  Number value{};
  const char* const end = text.data() + text.size();
  const auto [read, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || read != end) return std::nullopt;
  if constexpr (std::floating_point<Number>)
    if (!std::isfinite(value)) return std::nullopt;
  return value;
}

/// Whether the lower bound of a range belongs to it.
enum class Low : std::uint8_t { included, excluded };

/// What every option with a number is checked with: numbers from `low` to `high` pass, any other text is answered with
/// the range, which the help shows, too.
template <class Number>
[[nodiscard]] CLI::Validator between(Number low, Number high, Low bound = Low::included) {
  const auto written = [](Number number) {
    char text[32];
    return std::string(text, std::to_chars(text, text + sizeof text, number).ptr);
  };
  const std::string range = bound == Low::included ? written(low) + " to " + written(high)
                                                   : "above " + written(low) + ", at most " + written(high);
  const auto check = [=](std::string& text) -> std::string {
    const auto number = parse_number<Number>(text);
    if (!number || *number > high || *number < low || (bound == Low::excluded && *number == low))
      return "\"" + text + "\" is no number in its range: " + range;
    if constexpr (std::integral<Number>) text = written(*number);  // a leading 0 makes nothing octal
    return {};
  };
  return CLI::Validator(check, range);
}

/// From `low` to `high`.
template <class Number>
struct Range {
  Number low, high;
  Low bound = Low::included;
};

/// An option with a number in a range. Its default is what `value` holds, and the help shows both.
template <class Number>
CLI::Option* add_number(CLI::App& verb, const std::string& name, Number& value,
                        const Range<std::type_identity_t<Number>>& range, const std::string& help) {
  return verb.add_option(name, value, help)
      ->check(between<Number>(range.low, range.high, range.bound))
      ->capture_default_str();
}

/// The same with several numbers, separated by commas.
template <class Number>
CLI::Option* add_numbers(CLI::App& verb, const std::string& name, std::vector<Number>& values,
                         const Range<std::type_identity_t<Number>>& range, const std::string& help) {
  return verb.add_option(name, values, help)
      ->delimiter(',')
      ->check(between<Number>(range.low, range.high, range.bound))
      ->capture_default_str();
}

/// An option with one of some texts. Its default is what `value` holds, and the help shows both.
inline CLI::Option* add_choice(CLI::App& verb, const std::string& name, std::string& value,
                               const std::vector<std::string>& choices, const std::string& help) {
  return verb.add_option(name, value, help)->check(CLI::IsMember(choices))->capture_default_str();
}

}  // namespace krul::cli
