#include "reply_options.hpp"

#include <unistd.h>

#include <cstdio>
#include <limits>

#include "number_option.hpp"

namespace krul::cli {

void ReplyOptions::add_to(CLI::App& verb) {
  add_number(verb, "--max-tokens", max_tokens, {1, 1 << 20}, "longest reply");
  auto* temperature =
      add_number(verb, "--temperature", sampling.temperature, {0, 100}, "0 always takes the most likely token");
  add_number(verb, "--top-k", sampling.top_k, {0, 1 << 30}, "sample among so many tokens; 0 means all")
      ->needs(temperature);
  add_number(verb, "--top-p", sampling.top_p, {0, 1, Low::excluded},
             "sample among the tokens that make up this probability")
      ->needs(temperature);
  add_number(verb, "--seed", sampling.seed, {0, std::numeric_limits<std::uint64_t>::max()},
             "the same seed gives the same text")
      ->needs(temperature);
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

}  // namespace krul::cli
