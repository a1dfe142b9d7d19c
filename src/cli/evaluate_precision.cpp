#include <deque>

#include "evaluate.hpp"

namespace krul::cli {

void evaluate_precision(Evaluation& run) {
  std::deque<LoadedModel> models;  // whose addresses stay
  std::vector<AnyModel*> backends;
  std::vector<std::string> names;
  for (const auto& precision : run.options.precisions) {
    ModelOptions options = run.options.model;
    options.precision = precision;
    options.kernels = "auto";
    models.push_back(options.load(run.tool));
    backends.push_back(&models.back().backend);
    names.push_back(models.back().backend.identity().kernels);
  }
  AnyModel& exact = run.model.backend;
  const Json rows = evaluated(run, names, "conversation", cut_texts(run), eval::models_protocol(exact, backends));
  print_by_source(run, rows, {{"history", run.options.history}, {"new", run.options.fresh}},
                  {.names = "kernels",
                   .columns = {{{"conversations"}, "conversations", "", 0},
                               {{"delta_nll"}, "dNLL", "nats", 4},
                               {{"kl"}, "KL", "nats", 5},
                               {{"kl_p95"}, "KL p95", "", 5},
                               {{"kl_worst"}, "KL worst", "conversation", 5},
                               {{"top1"}, "top-1", "", 3}},
                   .below = "against " + exact.identity().kernels});
}

}  // namespace krul::cli
