#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "krul/core/tokens.hpp"

namespace krul {

/// Bits that each token of a text costs by what the text so far lets expect: few for what is repeated, many for names
/// and numbers that had not been there. No model is asked.
///
/// A token's probability after another is that of the pair so far, (n(a, b) + p(b)) / (n(a) + 1); p(b) is that of the
/// token so far, mixed with Zipf's law as 256 tokens that came before. Vocabularies of merged pairs number the merges
/// as they are found, the most frequent first, so a token's number stands for its rank.
/// @param vocabulary  tokens that the model knows
/// @return [N]
/// @complexity O(N)
/// @source ours; shorter contexts for what longer ones have not seen: prediction by partial matching, Cleary and Witten
///         1984 (second-hand)
[[nodiscard]] inline std::vector<float> token_surprise(std::span<const Token> tokens, std::size_t vocabulary) {
  constexpr double before = 256, first_rank = 10;
  const double all_ranks = std::log(static_cast<double>(std::max<std::size_t>(vocabulary, 2)));
  std::unordered_map<Token, double> times, followed;
  std::unordered_map<std::uint64_t, double> pairs;
  std::vector<float> bits;
  bits.reserve(tokens.size());
  for (std::size_t at = 0; at < tokens.size(); ++at) {
    const Token token = tokens[at];
    const double rank = first_rank + std::max<Token>(token, 0);
    double& seen = times[token];
    double likely = (seen + before / (rank * all_ranks)) / (static_cast<double>(at) + before);
    ++seen;
    if (at > 0) {
      const auto pair =
          std::uint64_t{static_cast<std::uint32_t>(tokens[at - 1])} << 32 | static_cast<std::uint32_t>(token);
      double &together = pairs[pair], &after = followed[tokens[at - 1]];
      likely = (together + likely) / (after + 1);
      ++together;
      ++after;
    }
    bits.push_back(static_cast<float>(-std::log2(likely)));
  }
  return bits;
}

}  // namespace krul
