#include "evaluate.hpp"

namespace krul::cli {

void evaluate_greedy(Evaluation& run) {
  const auto contenders = run.contenders();
  const auto& options = run.options;
  const eval::GreedySettings settings{.most = options.greedy,
                                      .ends = [&](Token token) { return run.model.tokenizer.ends_turn(token); }};
  const Json rows =
      evaluated(run, contenders.names(), "conversation", cut_texts(run), eval::greedy_protocol(contenders, settings));
  const std::size_t prompt = std::min(options.fresh, settings.prompt);
  print_by_source(
      run, rows, {{"history", options.history}, {"prompt", prompt}, {"greedy", settings.most}},
      {.columns = {{{"conversations"}, "conversations", "", 0},
                   {{"ratio_to_f16"}, "ratio", "to f16", 2},
                   {{"same_mean"}, "same", "tokens, mean"},
                   {{"same_q1", "same_median", "same_q3"}, "same", "quartiles", 0},
                   {{"never_differs"}, "never differs", "%", 0, 100}},
       .below = "history of up to " + std::to_string(options.history) + " tokens, a prompt of " +
                std::to_string(prompt) + ", then at most " + std::to_string(options.greedy) + " greedy tokens"});
}

}  // namespace krul::cli
