#include "krul/model/sampling.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <vector>

using namespace krul;

namespace {

std::vector<double> frequencies(const SamplingOptions& options, std::span<const float> logits, int draws) {
  Sampler sampler(options);
  std::vector<double> counts(logits.size());
  for (int i = 0; i < draws; ++i) counts[static_cast<std::size_t>(sampler(logits))] += 1.0 / draws;
  return counts;
}

constexpr std::array<float, 5> logits{0.5F, 2.0F, -1.0F, 2.0F, 1.0F};

}  // namespace

TEST_CASE("greedy takes the first of the largest") {
  CHECK(greedy(logits) == 1);
  CHECK(greedy(std::array{-3.0F}) == 0);
  CHECK_THROWS_AS((void)greedy({}), PreconditionError);
}

TEST_CASE("without a temperature sampling is greedy") {
  Sampler sampler({});
  for (int i = 0; i < 5; ++i) CHECK(sampler(logits) == 1);
}

TEST_CASE("tokens are drawn with their probabilities") {
  constexpr int draws = 20000;
  for (const double temperature : {1.0, 0.5}) {
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit) / temperature);
    const auto found = frequencies({.temperature = temperature, .seed = 7}, logits, draws);
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const double p = std::exp(static_cast<double>(logits[i]) / temperature) / sum;
      // Five standard deviations of a binomial share.
      CHECK(std::abs(found[i] - p) <= 5 * std::sqrt(p * (1 - p) / draws));
    }
  }
}

TEST_CASE("top_k and top_p keep the most likely") {
  const auto two = frequencies({.temperature = 1, .top_k = 2}, logits, 400);
  CHECK(two[1] > 0);
  CHECK(two[3] > 0);
  CHECK(two[0] + two[2] + two[4] == 0);
  // The two largest have 0.38 each, so 0.4 takes both and 0.3 only the first.
  const auto both = frequencies({.temperature = 1, .top_p = 0.4}, logits, 400);
  CHECK(both[0] + both[2] + both[4] == 0);
  CHECK(both[3] > 0);
  CHECK(frequencies({.temperature = 1, .top_p = 0.3}, logits, 50)[1] == doctest::Approx(1.0));
  CHECK(frequencies({.temperature = 1, .top_k = 1}, logits, 50)[1] == doctest::Approx(1.0));
  CHECK(frequencies({.temperature = 1, .top_k = 99}, logits, 50).size() == logits.size());
}

TEST_CASE("the same seed gives the same tokens, another seed others") {
  const auto draw = [](std::uint64_t seed) {
    Sampler sampler({.temperature = 1, .seed = seed});
    std::vector<Token> tokens;
    for (int i = 0; i < 40; ++i) tokens.push_back(sampler(logits));
    return tokens;
  };
  CHECK(draw(3) == draw(3));
  CHECK(draw(3) != draw(4));
}

TEST_CASE("a sampler refuses what cannot be meant") {
  CHECK_THROWS_AS(Sampler({.temperature = -1}), PreconditionError);
  CHECK_THROWS_AS(Sampler({.temperature = std::nan("")}), PreconditionError);
  CHECK_THROWS_AS(Sampler({.top_p = 0}), PreconditionError);
  CHECK_THROWS_AS(Sampler({.top_p = 1.5}), PreconditionError);
  Sampler sampler({.temperature = 1});
  CHECK_THROWS_AS((void)sampler({}), PreconditionError);
}
