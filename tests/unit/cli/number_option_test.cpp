#include "number_option.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <limits>

namespace {
using krul::cli::between;
using krul::cli::Low;
using krul::cli::parse_number;

TEST_CASE("a number is all of a text, finite, and fits its type") {
  CHECK(parse_number<double>("0.5") == 0.5);
  CHECK(parse_number<std::size_t>("18446744073709551615") == std::numeric_limits<std::size_t>::max());
  CHECK(parse_number<int>("-127") == -127);
  for (const char* text : {"", " 1", "1 ", "1x", "nan", "inf", "-inf", "1e400", "0x10", "--1"}) {
    CHECK_FALSE(parse_number<double>(text));
    CHECK_FALSE(parse_number<int>(text));
  }
  CHECK_FALSE(parse_number<std::size_t>("-1"));
  CHECK_FALSE(parse_number<std::size_t>("18446744073709551616"));
  CHECK_FALSE(parse_number<std::size_t>("1.5"));
}

/// What an option checked so answers; empty if the text passes.
std::string answer(const CLI::Validator& check, std::string text) {
  return check(text);
}

TEST_CASE("an option takes its range with both ends and names it otherwise") {
  const auto check = between<std::size_t>(1, 8);
  for (const char* text : {"1", "8", "3"}) CHECK(answer(check, text) == "");
  for (const char* text : {"0", "9", "-1", "nan", "1e3", "99999999999999999999", "two"})
    CHECK(answer(check, text) == "\"" + std::string(text) + "\" is no number in its range: 1 to 8");
}

TEST_CASE("a lower end can be excluded") {
  const auto check = between(0.0, 1.0, Low::excluded);
  CHECK(answer(check, "1") == "");
  CHECK(answer(check, "1e-300") == "");
  for (const char* text : {"0", "-0.0", "1.5", "nan", "1e-400"})
    CHECK(answer(check, text).ends_with("above 0, at most 1"));
}

TEST_CASE("a leading zero makes no octal number") {
  std::string text = "010";
  CHECK(between<int>(0, 20)(text) == "");
  CHECK(text == "10");
}

TEST_CASE("an option with a number shows its range and its default") {
  CLI::App verb;
  std::size_t rounds = 7;
  krul::cli::add_number(verb, "--rounds", rounds, {1, 1000}, "clean rounds");
  const std::string help = verb.help();
  CHECK(help.find("1 to 1000") != std::string::npos);
  CHECK(help.find("7", help.find("1 to 1000") + 9) != std::string::npos);
  verb.parse("--rounds 12");
  CHECK(rounds == 12);
  CHECK_THROWS_AS(verb.parse("--rounds 0"), CLI::ValidationError);
}

}  // namespace
