#pragma once

#include <span>
#include <vector>

#include "krul/core/geometry.hpp"

namespace krul::eval {

/// How badly each layer's rows are predicted by each other's: the share of the variance that a linear map with a mean
/// leaves, the mean of both directions, of K and of V.
/// @param keys, values  [L] of [T, G, D] as float; T should be a few times G * D
/// @return  [L, L] symmetric, in [0, 1]; the diagonal is 0
/// @throws  PreconditionError if lengths differ or do not fit
/// @complexity O(L^2 (T (G D)^2 + (G D)^3))
/// @source  ours
[[nodiscard]] std::vector<double> unpredictability(const Geometry& geometry, std::span<const std::vector<float>> keys,
                                                   std::span<const std::vector<float>> values);

}  // namespace krul::eval
