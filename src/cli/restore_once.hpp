#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "krul/conversation/conversation.hpp"
#include "krul/store/throttled_store.hpp"
#include "krul/strategy/any_strategy.hpp"
#include "machine_costs.hpp"

namespace krul::cli {

/// What one restore took, from opening the saved conversation to the prompt's logits.
struct RestoreFigure {
  double first_token_s = 0;
  RestoreReport report;
};

/// A returning conversation: where it is saved and what it goes on with.
struct Returning {
  LoadedModel& model;
  Costs costs;  ///< of the strategy on the link
  std::string id;
  std::vector<Token> tokens;  ///< what stands for the history, and the prompt
};

/// An id of its own for each strategy, and for each link that it saves otherwise for.
[[nodiscard]] inline std::string saved_id(const std::string& prefix, const AnyStrategy& strategy,
                                          const LinkName& link) {
  return prefix + strategy.name() + (strategy.needs().costs ? "-" + link.text : "");
}

/// Opens, restores, runs the prompt; then `after(conversation, logits)`, which is not timed.
template <ConversationStore S, class After>
RestoreFigure restore_once(const Returning& returning, S& store, const AnyStrategy& strategy, After&& after) {
  ConversationOptions options{.strategy = strategy};
  options.read_only = true;
  options.threads = returning.model.backend.workers().threads();
  options.costs = returning.costs;
  std::vector<float> logits(returning.model.backend.geometry().vocabulary);
  const SteadyClock clock;
  const TimePoint start = clock.now();
  auto talk = unwrap(Conversation<CpuModel, S>::open(returning.model.backend, store, returning.id, options));
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
