#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "krul/conversation/conversation.hpp"
#include "krul/conversation/strategy.hpp"
#include "krul/store/throttled_store.hpp"
#include "machine_costs.hpp"

namespace krul::cli {

/// What one restore took, from opening the saved conversation to the prompt's logits.
struct RestoreFigure {
  double first_token_s = 0;
  RestoreReport report;
};

/// A returning conversation: how it is saved and what it goes on with.
struct Returning {
  LoadedModel& model;
  const MachineCosts& costs;
  std::string id_prefix;             ///< saved under this and the codec's name
  const std::vector<Token>& tokens;  ///< history and prompt
};

/// The conversation's id under one codec.
[[nodiscard]] inline std::string saved_id(const std::string& prefix, std::string_view codec) {
  return prefix + std::string(codec);
}

/// How the history is saved for these strategies: once under every codec that one of them needs.
[[nodiscard]] inline std::vector<SaveAs> saves_for(const std::vector<Strategy>& strategies,
                                                   const std::string& id_prefix, std::size_t threads) {
  std::vector<SaveAs> saves;
  for (const auto& strategy : strategies) {
    const std::string id = saved_id(id_prefix, strategy.codec);
    if (std::any_of(saves.begin(), saves.end(), [&](const SaveAs& other) { return other.id == id; })) continue;
    saves.push_back(
        {.id = id, .plan = SavePlan::separate(unwrap(row_codec_from_name(strategy.codec))), .threads = threads});
  }
  return saves;
}

/// Opens, restores, runs the prompt; then `after(conversation, logits)`, which is not timed.
template <ConversationStore S, class After>
RestoreFigure restore_once(const Returning& returning, S& store, const Strategy& strategy, const LinkName& link,
                           After&& after) {
  ConversationOptions options;
  options.read_only = true;
  options.threads = returning.model.backend.workers().threads();
  options.costs = returning.costs.costs(link, strategy.codec);
  std::vector<float> logits(returning.model.backend.geometry().vocabulary);
  const SteadyClock clock;
  const TimePoint start = clock.now();
  auto talk = unwrap(Conversation<CpuModel, S, AnyPolicy>::open(
      returning.model.backend, store, saved_id(returning.id_prefix, strategy.codec), options, strategy.policy));
  RestoreFigure figure;
  figure.report = unwrap(talk.advance(returning.tokens, logits));
  figure.first_token_s = seconds(clock.now() - start);
  after(talk, logits);
  return figure;
}

/// A store behind a link of a stated rate, with the default bucket of 64 KiB: what arrives while the reader is away
/// waits.
template <ConversationStore S>
[[nodiscard]] ThrottledStore<S> behind_link(S store, const LinkName& link) {
  return {std::move(store),
          {.bytes_per_s = static_cast<std::uint64_t>(link.bytes_per_s), .latency = duration_of(throttled_latency_s)}};
}

}  // namespace krul::cli
