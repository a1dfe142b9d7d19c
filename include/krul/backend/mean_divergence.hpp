#pragma once

#include <numeric>
#include <span>
#include <vector>

#include "krul/backend/next_token.hpp"
#include "krul/core/error.hpp"
#include "krul/core/workers.hpp"

namespace krul {

/// Mean KL(exact || candidate) in nats, over rows of next-token logits.
/// @param exact      [rows, vocabulary], finite
/// @param candidate  [rows, vocabulary]
/// @throws PreconditionError unless both hold the same whole number of rows, one at least, or if an exact row is
///         not finite
/// @complexity two exponentials a logit
[[nodiscard]] inline double mean_divergence(std::span<const float> exact, std::span<const float> candidate,
                                            std::size_t vocabulary, Workers& workers) {
  expects(vocabulary > 0 && !exact.empty() && exact.size() % vocabulary == 0 && candidate.size() == exact.size(),
          "mean_divergence: both need the same whole number of rows");
  std::vector<double> of_row(exact.size() / vocabulary);
  workers.parallel_for(of_row.size(), [&](std::size_t row, std::size_t) {
    const auto at = [&](std::span<const float> logits) {
      return NextToken(logits.subspan(row * vocabulary, vocabulary));
    };
    of_row[row] = at(exact).divergence_from(at(candidate));
  });
  return std::accumulate(of_row.begin(), of_row.end(), 0.0) / static_cast<double>(of_row.size());
}

}  // namespace krul
