#include "talk.hpp"

#include <cstdio>

namespace krul::cli {

void ReplyOptions::add_to(CLI::App& verb) {
  verb.add_option("--max-tokens", max_tokens, "longest reply")->check(CLI::Range(1, 1 << 20))->capture_default_str();
  verb.add_option("--temperature", sampling.temperature, "0 always takes the most likely token")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  verb.add_option("--top-k", sampling.top_k, "sample among so many tokens; 0 means all")->capture_default_str();
  verb.add_option("--top-p", sampling.top_p, "sample among the tokens that make up this probability")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  verb.add_option("--seed", sampling.seed, "the same seed gives the same text")->capture_default_str();
}

Reply sample_reply(const LoadedModel& model, const ReplyOptions& options, std::span<float> logits,
                   const std::function<bool(Token)>& next, const std::function<void(Token)>& show) {
  Sampler sampler(options.sampling);
  Reply reply;
  while (reply.tokens.size() < options.max_tokens) {
    const Token token = sampler(logits);
    if (model.tokenizer.ends_turn(token)) {
      reply.end = token;
      break;
    }
    reply.tokens.push_back(token);
    show(token);
    if (reply.tokens.size() == options.max_tokens || !next(token)) break;
  }
  return reply;
}

std::function<void(Token)> show_on_terminal(const LoadedModel& model, const Tool& tool) {
  return [&](Token token) {
    if (tool.json) return;
    const auto bytes = model.tokenizer.bytes(token);
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
    std::fflush(stdout);
  };
}

}  // namespace krul::cli
