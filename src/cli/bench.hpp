#pragma once

#include <vector>

#include "krul/core/tokens.hpp"
#include "tool.hpp"

namespace krul::cli {

/// Tokens of real text: the program's own conversations, over and over.
[[nodiscard]] std::vector<Token> sample_tokens(const LoadedModel& model, std::size_t count);

/// Ends the program with a sentence if so many tokens do not fit the model's context.
void expect_fits(const LoadedModel& model, std::size_t tokens);

void add_bench_restore(CLI::App& bench, Tool& tool);
void add_bench_serve(CLI::App& bench, Tool& tool);

}  // namespace krul::cli
