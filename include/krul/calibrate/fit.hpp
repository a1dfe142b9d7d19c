#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "krul/calibrate/moments.hpp"
#include "krul/compress/joint/profile.hpp"

namespace krul {

/// How a profile is fitted.
struct FitSettings {
  double keep = 0.17;   ///< columns whose coefficients deviate by less, in steps, are left out
  double thin = 1;      ///< columns that deviate by less, in steps, are stored in 63 levels
  double wide = 4;      ///< columns that deviate by more, in steps, are stored as bf16, others as int8
  double floor = 1e-3;  ///< smallest weight of a direction, as a share of its head's largest
  double ridge = 0.01;  ///< added to the features' variances, as a share of their mean
};

/// What a profile is fitted to.
struct FitInput {
  const Geometry& geometry;
  const KvMoments& moments;
  std::span<const float> key_weights, value_weights;  ///< [L, G, D, D], what an error does: see ErrorWeights
  std::span<const double> sensitivity = {};           ///< [2, L] by which the weights of K, then V, of each layer are
                                                      ///< multiplied; empty: by 1
};

/// W^-1 of K, then of V, [2, L, G, D, D], in units in which the weighted values have a root mean square of 1: turns
/// noise that counts alike everywhere into noise of rows.
/// @throws PreconditionError as ProfileFit
[[nodiscard]] std::vector<float> inverse_weights(const FitInput& input, const FitSettings& settings, Workers& workers);

/// The fit of one model's profile: the transforms of all groups are eigenvectors of what the features leave of the
/// weighted covariance, then what the features predict outside of them. All that does not depend on the step is done
/// once.
class ProfileFit {
 public:
  /// @throws PreconditionError if a length does not fit or the moments hold fewer than two tokens
  /// @complexity O(n^3) for each group, and tensor
  ProfileFit(const FitInput& input, const FitSettings& settings, Workers& workers);
  ProfileFit(ProfileFit&&) noexcept;
  ~ProfileFit();

  /// @param step  of code 0, in units of the weighted values' root mean square
  /// @post   the profile is valid for Profile::create but for its first row; `model`, `notes` and `first_row` are left
  ///         empty
  /// @throws PreconditionError unless the step is above zero
  [[nodiscard]] ProfileData at(double step) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace krul
