#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

namespace krul::reference {

/// Twin of TokenwiseSimilarityEstimator: keeps every layer's whole matrices and computes when it is asked.
class FullAttention {
 public:
  FullAttention(std::size_t layers, std::size_t query_heads, std::size_t tokens)
      : tokens_(tokens), heads_(query_heads), weights_(layers, std::vector<double>(query_heads * tokens * tokens)) {}

  /// [L] of [H, tokens, tokens]; all 0 at first
  [[nodiscard]] double& weight(std::size_t layer, std::size_t head, std::size_t query, std::size_t key) {
    return weights_[layer][(head * tokens_ + query) * tokens_ + key];
  }
  [[nodiscard]] double weight(std::size_t layer, std::size_t head, std::size_t query, std::size_t key) const {
    return weights_[layer][(head * tokens_ + query) * tokens_ + key];
  }

  /// Distance of two layers' weights of the query rows in [begin, end), flattened.
  [[nodiscard]] double distance(std::size_t i, std::size_t j, std::size_t begin, std::size_t end) const {
    double sum = 0;
    for_entries(begin, end, [&](std::size_t entry, std::size_t) {
      sum += (weights_[i][entry] - weights_[j][entry]) * (weights_[i][entry] - weights_[j][entry]);
    });
    return std::sqrt(sum);
  }

  /// Euclidean norm of a layer's weights of the query rows in [begin, end).
  [[nodiscard]] double norm(std::size_t layer, std::size_t begin, std::size_t end) const {
    double sum = 0;
    for_entries(begin, end,
                [&](std::size_t entry, std::size_t) { sum += weights_[layer][entry] * weights_[layer][entry]; });
    return std::sqrt(sum);
  }

  /// Sum over heads and query rows in [begin, end) of the weights on keys in [first, last).
  [[nodiscard]] double mass(std::size_t layer, std::size_t begin, std::size_t end, std::size_t first,
                            std::size_t last) const {
    double sum = 0;
    for_entries(begin, end, [&](std::size_t entry, std::size_t key) {
      if (key >= first && key < last) sum += weights_[layer][entry];
    });
    return sum;
  }

 private:
  template <class Call>
  void for_entries(std::size_t begin, std::size_t end, Call&& call) const {
    for (std::size_t head = 0; head < heads_; ++head)
      for (std::size_t query = begin; query < end; ++query)
        for (std::size_t key = 0; key < tokens_; ++key) call((head * tokens_ + query) * tokens_ + key, key);
  }

  std::size_t tokens_;
  std::size_t heads_;
  std::vector<std::vector<double>> weights_;
};

}  // namespace krul::reference
