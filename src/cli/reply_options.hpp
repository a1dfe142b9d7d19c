#pragma once

#include <string>
#include <string_view>

#include "krul/model/reply.hpp"
#include "tool.hpp"

namespace krul::cli {

/// --max-tokens, --temperature, --top-k, --top-p, --seed
struct ReplyOptions {
  std::size_t max_tokens = 256;
  SamplingOptions sampling;

  void add_to(CLI::App& verb);
};

/// Writes a reply to standard output as it comes, but not with --json; on a terminal, what would command it is escaped.
class ReplyWriter {
 public:
  ReplyWriter(const Tokenizer& tokenizer, const Tool& tool);
  /// @return whether it could be written
  bool show(Token token);
  /// What is left, and the end of the line.
  void end();

 private:
  void write(std::string_view text);

  const Tokenizer& tokenizer_;
  bool silent_, escapes_;
  std::string pending_;  ///< a character of which bytes are still to come
};

}  // namespace krul::cli
