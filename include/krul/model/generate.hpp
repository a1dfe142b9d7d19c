#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "krul/backend/forward.hpp"
#include "krul/model/reply.hpp"

namespace krul {

/// What a text is written with.
struct GenerateSettings {
  SamplingOptions sampling = {};
  std::size_t most_tokens = 256;  ///< at least 1
};

/// What a model writes on behind a prompt, in a cache of its own, until the text ends, is long enough, or the context
/// is full.
/// @param prompt  at least one token, and no more than the model's context
/// @param steps   whose `next` is not looked at
/// @throws        PreconditionError and NotFiniteError as prefill, PreconditionError as sample_reply
template <ModelBackend B>
[[nodiscard]] Result<Reply> generate(B& model, std::span<const Token> prompt, const GenerateSettings& settings,
                                     ReplySteps steps) {
  const std::size_t room = std::min(model.geometry().context, prompt.size() + settings.most_tokens);
  auto cache = model.make_cache(room);
  auto batch = model.make_batch();
  std::vector<float> logits(model.geometry().vocabulary);
  prefill(model, cache, batch, prompt, logits);
  steps.next = [&](Token token) -> Status {
    if (cache.length() == room) return fail(ErrorCode::too_large, "the context is full");
    forward(model, cache, batch, std::span(&token, 1), logits);
    return {};
  };
  return sample_reply(settings.sampling, settings.most_tokens, logits, steps);
}

}  // namespace krul
