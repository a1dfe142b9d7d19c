#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "krul/backend/conformance/attention_checks.hpp"
#include "krul/backend/conformance/batch.hpp"
#include "krul/backend/conformance/cache.hpp"
#include "krul/backend/conformance/pass.hpp"
#include "krul/backend/conformance/pass_checks.hpp"
#include "krul/backend/conformance/rotary_check.hpp"
#include "krul/backend/conformance/step_checks.hpp"
#include "krul/backend/model_backend.hpp"
#include "krul/core/conformance_report.hpp"

namespace krul {

struct ConformanceOptions {
  /// T: length of the test conversations, >= 12; choose more than the tiles of your kernels. The work grows with T^2.
  std::size_t tokens = 40;
  /// What activations and attention weights are rounded to inside the kernels.
  ElementType compute_type = ElementType::f32;
  /// How far logits, and rows of K and V, may lie apart when the same thing is computed in different batches, relative
  /// to their own spread (conformance::relative_difference); by default default_tolerance().
  std::optional<double> logit_tolerance = std::nullopt;
  std::uint64_t seed = 1;  ///< of the test conversations
};

/// How far two computations of the same logits may lie apart that differ in how the rows are batched.
///
/// Relative to norms, one layer differs by at most
///   2 u_cache                  a K or V value next to a rounding boundary falls to either side: one unit, 2 u;
///   2 u_compute                the same for activations that kernels round;
///   sqrt(hidden) 2^-24         sums of `hidden` products added in another order; their errors walk at random.
/// Errors of L layers are independent and add up as sqrt(L). The factor 4 stands for what the layers themselves
/// amplify: norms, softmax and MLP have gains of order 1 that no geometry tells. A wrong mask, position or row moves
/// logits by order 1.
/// @source  ours
[[nodiscard]] inline double default_tolerance(const Geometry& geometry, ElementType compute_type) {
  const double layer = 2 * unit_roundoff(geometry.cache_type) + 2 * unit_roundoff(compute_type) +
                       std::sqrt(static_cast<double>(geometry.hidden)) * 0x1p-24;
  return 4 * std::sqrt(static_cast<double>(geometry.layers)) * layer;
}

namespace conformance {

inline void check_description(const Geometry& geometry, const Identity& identity, std::size_t tokens,
                              ConformanceReport& report) {
  report.add("description: the geometry is possible", [&] {
    require(geometry.layers > 0 && geometry.head_dim > 0 && geometry.hidden > 0 && geometry.vocabulary > 0,
            "a size is 0");
    require(geometry.kv_heads > 0 && geometry.query_heads > 0 && geometry.query_heads % geometry.kv_heads == 0,
            "query heads are not a multiple of KV heads");
    require(geometry.rotary.dimensions <= geometry.head_dim && geometry.rotary.dimensions % 2 == 0 &&
                (geometry.rotary.dimensions == 0 || geometry.rotary.base > 0),
            "rotary dimensions must be even and no more than a head has, and the base positive");
    require(geometry.context >= tokens, "the context is shorter than the test conversation; lower options.tokens");
    require(geometry.vocabulary <= INT32_MAX, "there are more tokens than a Token can name");
    return std::string();
  });
  report.add("description: the identity names architecture, weights, tokenizer and geometry", [&] {
    require(!identity.architecture.empty() && !identity.weights.empty() && !identity.tokenizer.empty(),
            "a field is empty, so that states of different models would be taken for one another");
    require(identity.geometry == describe(geometry), "identity().geometry is not describe(geometry())");
    return std::string();
  });
}

inline std::vector<Token> random_tokens(std::size_t count, std::size_t vocabulary, std::uint64_t seed) {
  std::vector<Token> tokens(count);
  for (auto& token : tokens) {
    seed = seed * 6364136223846793005U + 1442695040888963407U;
    token = static_cast<Token>((seed >> 33) % vocabulary);
  }
  return tokens;
}

}  // namespace conformance

/// Proves a model backend: its cache, its batch, and that passes agree however they are cut, restored or interleaved.
/// @throws      PreconditionError if options.tokens is below 12; what the backend throws ends up in the report
/// @complexity  about 50 passes over options.tokens tokens, and some thousand small cache transfers
template <ModelBackend B>
ConformanceReport check_backend(B& model, const ConformanceOptions& options = {}) {
  expects(options.tokens >= 12, "check_backend: at least 12 tokens");
  const Geometry& geometry = model.geometry();
  ConformanceReport report;
  conformance::check_description(geometry, model.identity(), options.tokens, report);
  if (!report.passed()) return report;
  report.append(check_kv_cache([&](std::size_t capacity) { return model.make_cache(capacity); }, geometry));
  report.append(check_layer_batch([&] { return model.make_batch(); }));

  conformance::Trial<B> trial{model,
                              geometry,
                              options.logit_tolerance.value_or(default_tolerance(geometry, options.compute_type)),
                              conformance::random_tokens(options.tokens, geometry.vocabulary, options.seed),
                              conformance::random_tokens(options.tokens, geometry.vocabulary, options.seed + 1),
                              {},
                              {}};
  report.add("passes: a conversation runs through", [&] {
    trial.reference = conformance::run(model, trial.tokens, {});
    trial.other = conformance::run(model, trial.others, {});
    return std::string();
  });
  if (!report.checks().back().passed) return report;
  conformance::check_passes(trial, report);
  conformance::check_independence(trial, report);
  if constexpr (LendsHiddenStates<typename B::Batch>) conformance::check_embedding(trial, report);
  conformance::check_rotary(trial, report);
  conformance::check_writes(trial, report);
  conformance::check_rows(trial, report);
  conformance::check_mistakes(trial, report);
  conformance::check_attention(trial, unit_roundoff(options.compute_type), report);
  return report;
}

}  // namespace krul
