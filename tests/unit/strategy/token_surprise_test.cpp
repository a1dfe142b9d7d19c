#include "krul/strategy/token_surprise.hpp"

#include <doctest/doctest.h>

#include <map>
#include <random>

using namespace krul;

namespace {

/// The same by counting anew for every token.
double surprise_at(std::span<const Token> tokens, std::size_t at, double vocabulary) {
  double seen = 0, together = 0, after = 0;
  for (std::size_t i = 0; i < at; ++i) {
    seen += tokens[i] == tokens[at];
    if (i + 1 == at) break;
    after += tokens[i] == tokens[at - 1];
    together += tokens[i] == tokens[at - 1] && tokens[i + 1] == tokens[at];
  }
  const double zipf = 1 / ((10.0 + tokens[at]) * std::log(vocabulary));
  const double alone = (seen + 256 * zipf) / (static_cast<double>(at) + 256);
  return -std::log2(at == 0 ? alone : (together + alone) / (after + 1));
}

}  // namespace

TEST_CASE("the surprise of a token is what counting the text before it gives") {
  std::mt19937_64 random(5);
  std::geometric_distribution<Token> token(0.05);
  std::vector<Token> tokens(400);
  for (Token& each : tokens) each = token(random);
  const auto bits = token_surprise(tokens, 500);
  REQUIRE(bits.size() == tokens.size());
  for (std::size_t at = 0; at < tokens.size(); ++at)
    CHECK(bits[at] == doctest::Approx(surprise_at(tokens, at, 500)).epsilon(1e-6));  // a float's rounding
}

TEST_CASE("what is repeated surprises less, and rare tokens surprise more") {
  const std::vector<Token> tokens = {3, 40, 500, 3, 40, 500, 3, 40, 900};
  const auto bits = token_surprise(tokens, 1000);
  CHECK(bits[4] < bits[1]);
  CHECK(bits[5] < bits[2]);
  CHECK(bits[8] > bits[5]);
  CHECK(bits[2] > bits[1]);
  CHECK(token_surprise({}, 0).empty());
  // Tokens that no vocabulary has are as surprising as others, and no more than that.
  const std::vector<Token> strange = {-1, 5};
  for (const float each : token_surprise(strange, 0)) CHECK(std::isfinite(each));
}
