#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "krul/core/geometry.hpp"
#include "krul/core/processor.hpp"
#include "krul/core/workers.hpp"

namespace krul {

/// Mean and covariance of what a profile describes, summed over tokens: K and V of each group of layers, the tokens'
/// features, and how both go together. Sums are in f32 about the first conversation's means.
class KvMoments {
 public:
  /// One tensor of one group; all of one group and tensor, about the mean.
  struct Sums {
    std::vector<float> mean;        ///< [n]
    std::vector<float> covariance;  ///< [n, n]
    std::vector<float> cross;       ///< [n, F] with the features
  };

  /// @param group_sizes  layers of each group; the last one repeats
  /// @param level        of the loops, which decides the order of sums
  /// @throws PreconditionError if a size is zero
  KvMoments(const Geometry& geometry, std::size_t features, std::span<const std::size_t> group_sizes,
            InstructionLevel level = instruction_level());
  KvMoments(KvMoments&&) noexcept;
  KvMoments& operator=(KvMoments&&) noexcept;
  ~KvMoments();

  /// @param keys      [T, L, G, D] with the rotary embedding undone
  /// @param values    [T, L, G, D]
  /// @param features  [T, F]
  /// @throws PreconditionError if a length does not fit
  /// @complexity      O(T (n^2 + n F)) summed over groups
  void add(std::span<const float> keys, std::span<const float> values, std::span<const float> features,
           Workers& workers);

  [[nodiscard]] std::size_t tokens() const noexcept;
  [[nodiscard]] std::size_t features() const noexcept;
  /// First layer and number of layers of each group.
  [[nodiscard]] std::span<const std::pair<std::size_t, std::size_t>> groups() const noexcept;
  /// @throws PreconditionError if there were fewer than two tokens
  [[nodiscard]] Sums keys(std::size_t group) const;
  [[nodiscard]] Sums values(std::size_t group) const;
  /// [F, F]
  [[nodiscard]] std::vector<float> feature_covariance() const;
  /// [F]
  [[nodiscard]] std::vector<float> feature_mean() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace krul
