#include "krul/model/reply.hpp"

namespace krul {

std::string_view name(Ended ended) {
  constexpr std::string_view names[] = {"stop", "length", "context", "interrupted", "output"};
  return names[static_cast<std::size_t>(ended)];
}

Result<Reply> sample_reply(const SamplingOptions& sampling, std::size_t most, std::span<float> logits,
                           const ReplySteps& steps) {
  Sampler sampler(sampling);
  Reply reply;
  const auto cut = [&](Ended why) {
    reply.ended = why;
    return reply;
  };
  while (true) {
    if (steps.interrupted()) return cut(Ended::interrupted);
    const Token token = sampler(logits);
    if (steps.ends(token)) {
      reply.end = token;
      return reply;
    }
    reply.tokens.push_back(token);
    reply.last_was_run = false;
    if (!steps.show(token)) return cut(Ended::output);
    if (reply.tokens.size() == most) return cut(Ended::length);
    if (const auto run = steps.next(token); !run) {
      if (run.error().code != ErrorCode::too_large) return propagate(run);
      return cut(Ended::context);
    }
    reply.last_was_run = true;
  }
}

}  // namespace krul
