#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/core/tokens.hpp"
#include "krul/eval/by_source.hpp"
#include "krul/eval/evaluate_return.hpp"

namespace krul::eval {

/// A conversation's tokens.
struct TokenText {
  std::string id, source;
  std::vector<Token> tokens;
};

/// Those that have so many tokens, the first `limit` of each source; 0: all.
/// @return may be empty
[[nodiscard]] inline std::vector<TokenText> long_enough(std::vector<TokenText> texts, std::size_t least_tokens,
                                                        std::size_t limit = 0) {
  SourceLimit taken(limit);
  std::erase_if(texts,
                [&](const TokenText& text) { return text.tokens.size() < least_tokens || !taken.take(text.source); });
  return texts;
}

/// Each text cut to a history and `fresh` tokens after it, without what comes behind.
/// @param history  tokens; less where a text is shorter
/// @throws         PreconditionError if a text has not more tokens than `fresh`
[[nodiscard]] inline std::vector<CutText> cut_texts(std::vector<TokenText> texts, std::size_t history,
                                                    std::size_t fresh) {
  std::vector<CutText> cut;
  for (TokenText& text : texts) {
    expects(text.tokens.size() > fresh, "cut_texts: nothing is left for a history");
    const std::size_t before = std::min(history, text.tokens.size() - fresh);
    text.tokens.resize(before + fresh);
    cut.push_back({std::move(text.id), std::move(text.source), std::move(text.tokens), before});
  }
  return cut;
}

}  // namespace krul::eval
