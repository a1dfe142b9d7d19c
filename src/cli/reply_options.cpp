#include "reply_options.hpp"

#include <unistd.h>

#include <cstdio>
#include <limits>

#include "escaped.hpp"
#include "interruption.hpp"
#include "number_option.hpp"

namespace krul::cli {

void ReplyOptions::add_to(CLI::App& verb) {
  verb.add_option("--max-tokens", max_tokens, "longest reply")
      ->check(between<std::size_t>(1, 1 << 20))
      ->capture_default_str();
  auto* temperature = verb.add_option("--temperature", sampling.temperature, "0 always takes the most likely token")
                          ->check(between(0.0, 100.0))
                          ->capture_default_str();
  verb.add_option("--top-k", sampling.top_k, "sample among so many tokens; 0 means all")
      ->needs(temperature)
      ->check(between<std::size_t>(0, 1 << 30))
      ->capture_default_str();
  verb.add_option("--top-p", sampling.top_p, "sample among the tokens that make up this probability")
      ->needs(temperature)
      ->check(between(0.0, 1.0, Low::excluded))
      ->capture_default_str();
  verb.add_option("--seed", sampling.seed, "the same seed gives the same text")
      ->needs(temperature)
      ->check(between<std::uint64_t>(0, std::numeric_limits<std::uint64_t>::max()))
      ->capture_default_str();
}

ReplyWriter::ReplyWriter(const Tokenizer& tokenizer, const Tool& tool)
    : tokenizer_(tokenizer), silent_(tool.json), escapes_(isatty(STDOUT_FILENO) != 0) {}

bool ReplyWriter::show(Token token) {
  if (silent_) return true;
  pending_ += tokenizer_.bytes(token);
  const std::size_t whole = escapes_ ? whole_characters(pending_) : pending_.size();
  write(std::string_view(pending_).substr(0, whole));
  pending_.erase(0, whole);
  return std::fflush(stdout) == 0 && !std::ferror(stdout);
}

void ReplyWriter::end() {
  if (silent_) return;
  write(pending_);
  pending_.clear();
  std::printf("\n");
  std::fflush(stdout);
}

void ReplyWriter::write(std::string_view text) {
  const std::string shown = escapes_ ? escaped(text, Lines::many) : std::string(text);
  std::fwrite(shown.data(), 1, shown.size(), stdout);
}

ReplySteps shown_steps(const Tokenizer& tokenizer, ReplyWriter& writer, const Interruption& interruption) {
  return {.ends = [&tokenizer](Token token) { return tokenizer.ends_turn(token); },
          .next = {},
          .show = [&writer](Token token) { return writer.show(token); },
          .interrupted = [&interruption] { return interruption.signal() != 0; }};
}

}  // namespace krul::cli
