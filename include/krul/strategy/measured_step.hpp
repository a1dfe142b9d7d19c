#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "krul/backend/forward.hpp"
#include "krul/backend/mean_divergence.hpp"
#include "krul/compress/coded_copy.hpp"
#include "krul/store/manifest.hpp"

namespace krul {

/// A conversation whose coding is to be chosen.
template <KvCache Cache>
struct CodedConversation {
  const Cache& cache;
  std::span<const Token> tokens;  ///< of its rows
  std::shared_ptr<const Profile> profile;
  Workers& workers;
};

/// How far a conversation's own last tokens are predicted otherwise once what came before them was coded at code 0.
/// @param fresh  the last tokens, fewer than all
/// @return mean KL in nats; infinite if what was coded leads to nothing finite
/// @throws PreconditionError if there are no rows before the last tokens, or no profile of the model; NotFiniteError if
///         the exact rows lead to nothing finite
/// @complexity a save and a restore of all rows, and two passes of the last tokens
template <ModelBackend B>
[[nodiscard]] double coding_divergence(B& model, const CodedConversation<typename B::Cache>& conversation,
                                       std::size_t fresh) {
  const std::size_t all = conversation.tokens.size();
  expects(conversation.profile && fresh > 0 && all > fresh && conversation.cache.length() >= all,
          "coding_divergence: needs a profile, and rows before the last tokens");
  const RowsToCopy before{.count = all - fresh, .capacity = all};
  const TokenFeatures features = conversation.profile->data().features > 0
                                     ? token_features(model, conversation.tokens.first(before.count))
                                     : TokenFeatures{};
  const std::size_t vocabulary = model.geometry().vocabulary;
  std::vector<float> logits[2];
  for (const bool coded : {false, true}) {
    auto cache = coded_copy(model, conversation.cache, before, {coded ? conversation.profile : nullptr, {}, features},
                            conversation.workers);
    auto batch = model.make_batch();
    logits[coded].resize(fresh * vocabulary);
    try {
      prefill(model, cache, batch, conversation.tokens.subspan(before.count), logits[coded]);
    } catch (const NotFiniteError&) {
      if (!coded) throw;
      return std::numeric_limits<double>::infinity();
    }
  }
  return mean_divergence(logits[0], logits[1], vocabulary, conversation.workers);
}

/// Shorter conversations say too little of themselves.
inline constexpr std::size_t least_measured_tokens = 256;

/// What a conversation's step is chosen by.
struct StepChoice {
  double kl = 0.01;          ///< wanted, mean over what comes next
  double usual_kl = 0.0075;  ///< of code 0, over conversations that a profile was not calibrated on
  double trust = 0.6;        ///< how far a measured divergence tells of the next tokens: 1 fully, 0 not at all
  double least_share = 0.9;  ///< of the measured divergence that is expected at least: what is far above the usual one
                             ///< is no accident but another kind of text
  StepScale finest = finest_step, coarsest = coarsest_step;
  std::size_t fresh = 64;  ///< tokens that are looked at
};

/// The step at which a conversation's divergence is what is wanted: it grows with the square of the step.
/// @param measured  its divergence at code 0, by coding_divergence
/// @source the measurement in the place of attention's similarity: ours
[[nodiscard]] inline StepScale step_for(double measured, const StepChoice& choice) noexcept {
  constexpr double codes_a_factor = 8;  // codes that double the divergence
  const double usual = std::pow(std::max(measured, 1e-9), choice.trust) * std::pow(choice.usual_kl, 1 - choice.trust);
  const double expected = std::max(usual, choice.least_share * measured);
  const double code = std::round(codes_a_factor * std::log2(choice.kl / expected));
  return {static_cast<std::int8_t>(
      std::clamp(code, static_cast<double>(choice.finest.code), static_cast<double>(choice.coarsest.code)))};
}

/// Measures a conversation and chooses its step.
/// @return none if the conversation is too short to be measured
/// @throws PreconditionError and @complexity as coding_divergence
template <ModelBackend B>
[[nodiscard]] std::optional<StepScale> measured_step(B& model, const CodedConversation<typename B::Cache>& conversation,
                                                     const StepChoice& choice) {
  if (conversation.tokens.size() < std::max(least_measured_tokens, choice.fresh + 1)) return std::nullopt;
  return step_for(coding_divergence(model, conversation, choice.fresh), choice);
}

/// The step with which a conversation that comes back goes on: what its plans remember, the last one, or else `own`.
/// @param own  the strategy's
/// @return     none if no row was coded by a profile yet: then its own rows still tell
[[nodiscard]] inline std::optional<StepScale> remembered_step(std::span<const SavePlanRecord> plans, StepScale own) {
  std::optional<StepScale> step;
  for (const SavePlanRecord& plan : plans) {
    if (plan.measured_step) {
      step = StepScale{*plan.measured_step};
    } else if (!step && !plan.profile.empty()) {
      step = own;
    }
  }
  return step;
}

}  // namespace krul
