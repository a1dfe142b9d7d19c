#pragma once

#include <algorithm>
#include <vector>

#include "krul/core/tokens.hpp"
#include "krul/eval/paired_rounds.hpp"
#include "patience_option.hpp"
#include "rounds_note.hpp"
#include "run_rounds.hpp"
#include "tool.hpp"

namespace krul::cli {

/// Tokens of real text: the program's own conversations, over and over.
[[nodiscard]] std::vector<Token> sample_tokens(const LoadedModel& model, std::size_t count);

/// Ends the program with a sentence if so many tokens do not fit the model's context.
void expect_fits(const LoadedModel& model, std::size_t tokens);

/// The harness's rules for so many clean rounds.
[[nodiscard]] inline eval::RoundsOptions rounds_of(std::size_t clean, double patience_s) {
  return {.clean_rounds = clean, .most_rounds = std::max<std::size_t>(4 * clean, 12), .patience_s = patience_s};
}

struct PhasesOptions {
  std::vector<std::size_t> lengths;  ///< tokens of each pass
  std::size_t context = 0;           ///< tokens in the cache before them
  std::size_t rounds = 7;
  PatienceOption patience;  ///< over all lengths
};

/// Prints what each part of a pass takes, beside what it cannot do without on this machine.
void bench_phases(LoadedModel& model, const PhasesOptions& options, const Tool& tool);

void add_bench_coding(CLI::App& bench, Tool& tool);
void add_bench_restore(CLI::App& bench, Tool& tool);
void add_bench_serve(CLI::App& bench, Tool& tool);
void add_bench_observe(CLI::App& bench, Tool& tool);
void add_bench_save(CLI::App& bench, Tool& tool);

}  // namespace krul::cli
