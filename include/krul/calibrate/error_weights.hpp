#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "krul/backend/attention_observer.hpp"
#include "krul/core/geometry.hpp"
#include "krul/core/workers.hpp"

namespace krul {

/// What an error of K or V does to the residual stream, measured on the model's own attention.
///
/// A change e of the value at s changes the output of head h at t by a_ts e, and one of the key (before the rotary
/// embedding) by a_ts (q_t . R(s) e) (v_s - o_t) / sqrt(D), to first order. With errors of different tokens independent
/// and B_h the head's columns of the output matrix, the energy that reaches the residual stream is e^T M e with
///   M_V = sum_h E_t[ sum_s a_ts^2 ] B_h^T B_h
///   M_K = sum_h E_t[ sum_s a_ts^2 |B_h (v_s - o_t)|^2 (R(s)^T q_t) (R(s)^T q_t)^T ] / D
/// over the query heads of a KV head. The sum over s of M_K is drawn at random, in proportion to its weights.
/// @source ours; KVTC (arXiv:2511.01815, second-hand) has no weights
class ErrorWeights {
 public:
  /// Outliers at the start of a conversation, which say little about the rest: keys before are left out.
  static constexpr std::size_t first_tokens = 4;

  /// @param outputs  [L][hidden, H * D] each layer's output matrix; without them, B_h is the identity
  /// @throws PreconditionError if a length does not fit
  ErrorWeights(const Geometry& geometry, std::span<const std::vector<float>> outputs, Workers& workers);
  ErrorWeights(ErrorWeights&&) noexcept;
  ~ErrorWeights();

  /// One layer of a conversation, as attend is about to run: what its blocks of attention will be about.
  /// @param values     [T, G, D]
  /// @param queries    [T, H, D], with the rotary embedding
  /// @param attention  [T, H, D], filled by attend
  /// @param hidden     mean square of the residual stream, by which the layer's energies are divided
  struct Layer {
    std::span<const float> values;
    std::span<const float> queries;
    std::span<const float> attention;
    double hidden = 1;
  };
  void begin(const Layer& layer);
  /// Adds a block of the layer that began.
  void operator()(const AttentionBlock& block);

  /// [L, G, D, D] of K and of V.
  /// @throws PreconditionError if nothing was added
  [[nodiscard]] std::vector<float> keys() const;
  [[nodiscard]] std::vector<float> values() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace krul
