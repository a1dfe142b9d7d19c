#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>

#include "krul/backend/model_backend.hpp"
#include "krul/core/workers.hpp"
#include "krul/strategy/block_bytes.hpp"
#include "krul/strategy/evidence.hpp"
#include "krul/strategy/needs.hpp"

namespace krul {

/// A conversation that is about to be saved, and what is known of it already.
template <KvCache Cache>
struct LiveConversation {
  const Cache& cache;
  std::span<const Token> tokens;  ///< of its rows
  Workers& workers;
  const AttentionStatistics* statistics = nullptr;  ///< none if nobody looked
  const RowAttention* row_attention = nullptr;      ///< the same
  std::optional<StepScale> step = {};  ///< that was measured before: rows that were restored no longer tell
  std::optional<Costs> costs = {};     ///< of the restore that is planned for
  std::size_t block = 64;              ///< tokens of a stored block
};

namespace detail {

/// What the codings make of a block, the first one without a profile and the one with one, tried on the last tokens;
/// scaled to a whole block where there are fewer.
template <ModelBackend B>
[[nodiscard]] BlockBytes bytes_of_block(B& model, std::span<const SavePlan> codings,
                                        const LiveConversation<typename B::Cache>& live) {
  BlockBytes bytes;
  const std::size_t tried = std::min(live.block, live.tokens.size());
  if (tried == 0) return bytes;
  for (const SavePlan& coding : codings) {
    if (!coding.profile && bytes.single == 0) {
      const BlockBytes plain = measure_block_bytes(live.cache, model.geometry(), coding, tried);
      bytes.single = plain.single;
      bytes.pair = plain.pair;
    }
    if (!coding.profile) continue;
    const bool wants_features = coding.profile->data().features > 0;
    const std::size_t first =
        coding.classes.empty() ? live.tokens.size() - tried : middle_block(live.tokens.size(), tried).begin;
    const auto features = wants_features ? token_features(model, live.tokens, first) : TokenFeatures{};
    BlockBytes joint = measure_group_bytes(live.cache, model.geometry(), coding, tried, features);
    bytes.groups = std::move(joint.groups);
    bytes.recent_groups = std::move(joint.recent_groups);
  }
  const auto scale = [&](std::uint64_t& each) { each = each * live.block / tried; };
  scale(bytes.single);
  scale(bytes.pair);
  for (auto* groups : {&bytes.groups, &bytes.recent_groups})
    for (auto& each : *groups) scale(each);
  return bytes;
}

}  // namespace detail

/// Gathers what a strategy needs to plan a save, and nothing else. Of what needs its own pass over the conversation
/// (hidden states, key masses, predictability) the caller adds what it has.
/// @post   the step is the one that was measured before, or is measured now where the conversation is long enough
/// @throws PreconditionError as measured_step and measure_block_bytes; NotFiniteError if a row is not finite
/// @complexity what is needed: measuring the step takes a save, a restore and two short passes; the bytes of a block
///         the coding of one
template <ModelBackend B>
[[nodiscard]] Evidence gather_evidence(B& model, const Needs& needs, const LiveConversation<typename B::Cache>& live) {
  Evidence evidence{
      .geometry = model.geometry(), .tokens = live.tokens.size(), .block = live.block, .costs = live.costs};
  if (needs.attention && live.statistics != nullptr) evidence.statistics = *live.statistics;
  if (!needs.row_attention.empty()) {
    evidence.history.assign(live.tokens.begin(), live.tokens.end());
    if (live.row_attention != nullptr) evidence.row_attention = *live.row_attention;
  }
  std::vector<SavePlan> codings = needs.codings;
  const auto joint = std::ranges::find_if(codings, [](const SavePlan& coding) { return coding.profile != nullptr; });
  if (needs.step && joint != codings.end()) {
    evidence.step = live.step;
    if (!evidence.step)
      evidence.step = measured_step(
          model, CodedConversation<typename B::Cache>{live.cache, live.tokens, joint->profile, live.workers},
          *needs.step);
    if (evidence.step) joint->step = *evidence.step;
  }
  if (!needs.block_bytes) return evidence;
  if (needs.classes && joint != codings.end()) code_by_attention(*joint, evidence.attended_rows(), *needs.classes);
  evidence.block_bytes = detail::bytes_of_block(model, codings, live);
  return evidence;
}

}  // namespace krul
