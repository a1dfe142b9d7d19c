#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/backend/lends_workers.hpp"
#include "krul/conversation/conversation.hpp"
#include "krul/eval/save_history.hpp"
#include "krul/store/any_store.hpp"
#include "krul/store/stored_bytes.hpp"

namespace krul::eval {

/// A conversation that is saved and comes back.
struct Returning {
  AnyStrategy strategy;
  std::string id;                      ///< under which it is saved
  std::vector<Token> tokens;           ///< what stands for the history, and what the user comes back with
  std::optional<Costs> costs = {};     ///< of the restore; none: nobody plans
  std::size_t capacity = 0;            ///< tokens that there is room for; 0: as Conversation has it
  std::uint64_t stored_bytes = 0;      ///< all of the conversation counted
  std::optional<StepScale> step = {};  ///< that was measured for its save
  bool stays_open = false;             ///< its owner knows what its manifest says
};

/// Saves a history, as save_history does.
/// @return the conversation, planned for as its save was, without what the user comes back with
template <ModelBackend B>
[[nodiscard]] Result<Returning> save_returning(B& model, AnyStore& store, const ExactHistory<B>& exact,
                                               std::span<const Token> history, const HistorySave& save) {
  auto saved = save_history(model, store, exact, history, save);
  if (!saved) return propagate(saved);
  const auto folder = conversation_folder(save.id);
  if (!folder) return propagate(folder);
  const auto bytes = stored_bytes(store, *folder);
  if (!bytes) return propagate(bytes);
  return Returning{.strategy = save.strategy,
                   .id = save.id,
                   .tokens = std::move(saved->tokens),
                   .costs = save.costs,
                   .stored_bytes = *bytes,
                   .step = saved->step};
}

/// What one restore took.
struct RestoreFigure {
  double first_token_s = 0;  ///< from opening what is saved, unless it stays open, to the logits of the last token
  RestoreReport report;
};

/// A conversation that came back.
template <ModelBackend B, Clock C = SteadyClock>
struct Restored {
  RestoreFigure figure;
  Conversation<B, AnyStore, C> conversation;
  std::vector<float> logits;  ///< [rows, vocabulary] next-token logits of its last tokens
};

/// Opens a saved conversation, restores it and runs its new tokens. What is saved stays as it is.
/// @param store  outlives what is returned
/// @param rows   of logits that are wanted, at least 1
/// @return and throws as Conversation's open and advance
template <ModelBackend B, Clock C = SteadyClock>
[[nodiscard]] Result<Restored<B, C>> restore_once(B& model, AnyStore& store, const Returning& returning,
                                                  std::size_t rows = 1, C clock = {}) {
  ConversationOptions options{.strategy = returning.strategy};
  options.capacity = returning.capacity;
  options.read_only = true;
  options.threads = TeamFor<B>(model).workers().threads();
  options.costs = returning.costs;
  std::vector<float> logits(rows * model.geometry().vocabulary);
  const TimePoint start = clock.now();
  auto opened = Conversation<B, AnyStore, C>::open(model, store, returning.id, options, clock);
  if (!opened) return propagate(opened);
  const double open_s = seconds(clock.now() - start);
  auto report = opened->advance(returning.tokens, logits);
  if (!report) return propagate(report);
  double taken_s = seconds(clock.now() - start);
  if (returning.stays_open) {
    taken_s -= open_s;
    report->opening_s = std::max(report->opening_s - open_s, 0.0);
    // Of an opening's two round trips the one for the first rows is left.
    double& predicted_s = report->predicted.opening_s;
    if (predicted_s > 0) predicted_s = returning.costs->link.open_s / 2;
  }
  return Restored<B, C>{{taken_s, std::move(*report)}, std::move(*opened), std::move(logits)};
}

}  // namespace krul::eval
