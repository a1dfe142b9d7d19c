#include "evaluate.hpp"

namespace krul::cli {

void evaluate_quality(Evaluation& run) {
  const auto contenders = run.contenders();
  const Json rows =
      evaluated(run, contenders.names(), "conversation", cut_texts(run), eval::quality_protocol(contenders));
  const auto& options = run.options;
  print_by_source(run, rows, {{"history", options.history}, {"new", options.fresh}},
                  {.columns = {{{"conversations"}, "conversations", "", 0},
                               {{"bytes_per_token"}, "bytes", "per token", 0},
                               {{"ratio_to_f16"}, "ratio", "to f16", 2},
                               {{"delta_nll"}, "dNLL", "nats", 4},
                               {{"kl"}, "KL", "nats", 5},
                               {{"kl_p95"}, "KL p95", "", 5},
                               {{"kl_q1", "kl_median", "kl_q3"}, "KL quartiles", "conversations", 5},
                               {{"kl_worst"}, "KL worst", "conversation", 5},
                               {{"top1"}, "top-1", "", 3},
                               {{"history_benefit"}, "benefit", "kept", 4}},
                   .below = "history of up to " + std::to_string(options.history) + " tokens, the next " +
                            std::to_string(options.fresh) + " are the new input; " +
                            std::to_string(rows.front()["conversations"].get<std::size_t>()) + " conversations"});
}

}  // namespace krul::cli
