#pragma once

#include <string>
#include <vector>

#include "krul/core/tokens.hpp"
#include "krul/eval/prefill_bench.hpp"
#include "krul/eval/token_text.hpp"
#include "rounds.hpp"
#include "tool.hpp"

namespace krul::cli {

/// Tokens of real text: the program's own conversations, over and over.
[[nodiscard]] std::vector<Token> sample_tokens(const LoadedModel& model, std::size_t count);

/// Conversations of files in the model's chat format; the program's own if there are none.
[[nodiscard]] std::vector<eval::TokenText> token_texts(const LoadedModel& model, const std::vector<std::string>& files);

/// Ends the program with a sentence if so many tokens do not fit the model's context.
void expect_fits(const LoadedModel& model, std::size_t tokens);

/// Passes over several lengths.
struct PassesOptions {
  ModelOptions model;
  std::vector<std::size_t> lengths{512, 1024};  ///< tokens of each pass
  std::size_t context = 0;                      ///< tokens in the cache before them
  bool phases = false;
  RoundsOption rounds;  ///< patience is for all lengths
};

/// Calls use(length, bench, rules) for each length in turn: a PrefillBench of real text, and how it may be repeated.
/// @param backend  of the model, or what wraps it
template <class Backend, class Use>
void for_each_length(const PassesOptions& options, const LoadedModel& model, Backend& backend, Use&& use) {
  const auto patience = options.rounds.patience.begin();
  for (std::size_t i = 0; i < options.lengths.size(); ++i) {
    const std::size_t tokens = options.context + options.lengths[i];
    expect_fits(model, tokens);
    eval::PrefillBench bench(backend, sample_tokens(model, tokens), options.context);
    use(options.lengths[i], bench, options.rounds.with(patience.share_s(options.lengths.size() - i)));
  }
}

/// Prints what each part of a pass takes, beside what it cannot do without on this machine.
void bench_phases(LoadedModel& model, const PassesOptions& options, const Tool& tool);

void add_bench_coding(CLI::App& bench, Tool& tool);
void add_bench_restore(CLI::App& bench, Tool& tool);
void add_bench_serve(CLI::App& bench, Tool& tool);
void add_bench_observe(CLI::App& bench, Tool& tool);
void add_bench_save(CLI::App& bench, Tool& tool);

}  // namespace krul::cli
