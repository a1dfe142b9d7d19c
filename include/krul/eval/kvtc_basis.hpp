#pragma once

#include <array>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "krul/calibrate/moments.hpp"
#include "krul/core/error.hpp"
#include "krul/core/workers.hpp"

namespace krul::eval {

/// Neighbouring principal components of one token that share a scale and a shift of 16 bits each.
struct KvtcGroup {
  std::size_t size = 0;
  unsigned bits = 0;  ///< of each component

  static constexpr std::array<std::size_t, 5> sizes = {1, 16, 64, 256, 1024};
  static constexpr std::array<unsigned, 3> widths = {2, 4, 8};
  /// What a token pays for it, with its scale and shift.
  [[nodiscard]] std::size_t token_bits() const noexcept { return size * bits + 32; }
  friend bool operator==(const KvtcGroup&, const KvtcGroup&) = default;
};

/// The leading principal components of K, or of V, of all layers and heads of one token, and what it costs to round
/// them, measured on calibration data.
struct KvtcTensor {
  std::vector<float> mean;        ///< [n]
  std::vector<float> directions;  ///< [r, n] orthonormal but for rounding to f16, of falling variance
  std::vector<float> energies;    ///< [r] mean square of each component
  std::vector<float> errors;  ///< [r, sizes, widths] mean squared error of a group that begins there; infinite where
                              ///< it would reach beyond r

  [[nodiscard]] std::size_t features() const noexcept { return mean.size(); }
  [[nodiscard]] std::size_t rank() const noexcept { return energies.size(); }
  friend bool operator==(const KvtcTensor&, const KvtcTensor&) = default;
};

/// What KVTC's coder has to know of a model: the same for all conversations and budgets.
struct KvtcBasis {
  KvtcTensor keys, values;
  friend bool operator==(const KvtcBasis&, const KvtcBasis&) = default;
};

/// What a basis is fitted to; keys with the rotary embedding undone.
struct KvtcSamples {
  const KvMoments& moments;             ///< of one group of all layers, without features
  std::span<const float> keys, values;  ///< [S, L, G, D] of some tokens, on which errors of rounding are measured
};

/// Leading eigenvectors of the covariance by orthogonal iteration from a random start, then the errors of every
/// possible group on the samples.
/// @param rank  components that are kept, at most as many as there are features
/// @throws PreconditionError if the moments are not of one group, there is no sample, or a length does not fit
/// @complexity  O(n^2 r) for n features
[[nodiscard]] KvtcBasis fit_kvtc_basis(const KvtcSamples& samples, std::size_t rank, Workers& workers);

/// Groups from the first component on; what comes after the last one has 0 bits. By dynamic programming: those of the
/// least squared error that take at most so many bits a token.
/// @source KVTC, arXiv:2511.01815, second-hand; theirs has 8 bits in floating point
/// @complexity O(rank * budget)
[[nodiscard]] std::vector<KvtcGroup> kvtc_plan(const KvtcTensor& tensor, std::size_t budget_bits);

/// For a file of a measurement: in this machine's byte order, directions in f16.
[[nodiscard]] std::vector<std::byte> to_bytes(const KvtcBasis& basis);
/// @return corrupt if to_bytes gave other bytes
[[nodiscard]] Result<KvtcBasis> kvtc_basis_from_bytes(std::span<const std::byte> bytes);

}  // namespace krul::eval
