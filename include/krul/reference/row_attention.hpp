#pragma once

#include <cmath>
#include <cstddef>

#include "krul/reference/similarity.hpp"

namespace krul::reference {

/// Layers whose squared weights are added up, and how.
struct ReceivedBy {
  std::size_t first_layer, layers, heads;
  double half_life = 16;
  std::size_t first_query = 0;   ///< that counts
  std::size_t layers_apart = 8;  ///< of those that a query row counts, each as often
};

/// Twin of RowAttention::received, from all weights of the query rows up to `end`.
inline double received(const FullAttention& all, std::size_t key, std::size_t end, const ReceivedBy& by) {
  double lately = 0, counted = 0;
  for (std::size_t query = by.first_query; query < end; ++query) {
    const double weight = std::exp2(-static_cast<double>(end - 1 - query) / by.half_life);
    counted += weight;
    if (query < key) continue;
    double squares = 0;
    for (std::size_t layer = by.first_layer; layer < by.first_layer + by.layers; ++layer) {
      if ((layer + query) % by.layers_apart != 0) continue;
      for (std::size_t head = 0; head < by.heads; ++head)
        squares += static_cast<double>(by.layers_apart) * std::pow(all.weight(layer, head, query, key), 2);
    }
    lately += weight * squares;
  }
  return lately / counted;
}

}  // namespace krul::reference
