#pragma once

#include <string>
#include <utility>

#include "krul/backend/model_backend.hpp"
#include "krul/conversation/conversation_options.hpp"
#include "krul/core/clock.hpp"
#include "krul/store/conversation_store.hpp"

namespace krul {

template <ModelBackend B, ConversationStore S, Clock C = SteadyClock>
class Conversation;  // conversation.hpp, which includes this

/// Conversation::open with the types taken from the arguments: a Result<Conversation<B, S>>.
template <class B, class S>
[[nodiscard]] auto open_conversation(B& model, S& store, std::string id, ConversationOptions options = {}) {
  // Here, where compilers say what is missing.
  static_assert(ModelBackend<B>, "the model is no ModelBackend");
  static_assert(ConversationStore<S>, "the store is no ConversationStore");
  return Conversation<B, S>::open(model, store, std::move(id), std::move(options));
}
/// The same under a strategy, in the place of the options'.
template <class B, class S, Strategy Chosen>
[[nodiscard]] auto open_conversation(B& model, S& store, std::string id, Chosen strategy,
                                     ConversationOptions options = {}) {
  options.strategy = std::move(strategy);
  return open_conversation(model, store, std::move(id), std::move(options));
}

}  // namespace krul
