#pragma once

#include <charconv>
#include <cmath>
#include <cstddef>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "krul/eval/statistics.hpp"
#include "krul/similarity/sketched_gram.hpp"
#include "krul/similarity/tokenwise_similarity_estimator.hpp"

namespace krul::eval {

/// A way to estimate how far apart layers' attention weights are.
struct ObservedMetric {
  std::string name;
  bool exact = true;      ///< else by sketches
  std::size_t every = 1;  ///< one of so many query rows counts

  /// "exact", "sketch", or one of them on one of s rows, "exact/16".
  /// @return invalid_argument that says so, for any other name
  [[nodiscard]] static Result<ObservedMetric> named(const std::string& name) {
    ObservedMetric metric{.name = name};
    const auto slash = name.find('/');
    const std::string kind = name.substr(0, slash);
    metric.exact = kind == "exact";
    bool is_valid = metric.exact || kind == "sketch";
    if (slash != std::string::npos) {
      const char* const end = name.data() + name.size();
      const auto [read, error] = std::from_chars(name.data() + slash + 1, end, metric.every);
      is_valid = is_valid && error == std::errc{} && read == end && metric.every > 0;
    }
    if (is_valid) return metric;
    return fail(ErrorCode::invalid_argument,
                "\"" + name + "\" is no metric: say exact or sketch, or exact/16 for one of 16 rows");
  }

  /// Several, their names separated by commas.
  [[nodiscard]] static Result<std::vector<ObservedMetric>> all_named(const std::string& names) {
    std::vector<ObservedMetric> found;
    std::stringstream separated(names);
    for (std::string name; std::getline(separated, name, ',');) {
      auto metric = named(name);
      if (!metric) return propagate(metric);
      found.push_back(std::move(*metric));
    }
    return found;
  }
};

/// An estimator by any of these metrics.
using AnyEstimator = std::variant<TokenwiseSimilarityEstimator<ExactGram>, TokenwiseSimilarityEstimator<SketchedGram>>;

/// @param exact  how the exact metric takes its rows
/// @throws PreconditionError as the metric's constructor
[[nodiscard]] inline AnyEstimator make_estimator(const Geometry& geometry, const ObservedMetric& metric,
                                                 const ExactGramOptions& exact) {
  if (metric.exact) return TokenwiseSimilarityEstimator(geometry, ExactGram(geometry, exact), metric.every);
  return TokenwiseSimilarityEstimator(geometry, SketchedGram(geometry), metric.every);
}

/// Distances of all pairs of layers, (0, 1), (0, 2), ...
[[nodiscard]] inline std::vector<double> pair_distances(const AttentionStatistics& statistics) {
  std::vector<double> found;
  for (std::size_t i = 0; i < statistics.layers; ++i)
    for (std::size_t j = i + 1; j < statistics.layers; ++j) found.push_back(statistics.distance(i, j));
  return found;
}

/// How close estimated distances come to the exact ones.
struct Agreement {
  double correlation = 0;  ///< by rank, in [-1, 1]
  double error = 0;        ///< mean, relative
};

/// @throws PreconditionError unless both have the same layers, three at least
[[nodiscard]] inline Agreement agreement(const AttentionStatistics& estimated, const AttentionStatistics& exact) {
  const auto left = pair_distances(estimated), right = pair_distances(exact);
  Agreement found{.correlation = rank_correlation(left, right)};
  for (std::size_t i = 0; i < left.size(); ++i)
    found.error += std::abs(left[i] / right[i] - 1) / static_cast<double>(left.size());
  return found;
}

}  // namespace krul::eval
