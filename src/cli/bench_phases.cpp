#include <cstdio>
#include <string>
#include <vector>

#include "bench.hpp"
#include "krul/backend/forward.hpp"
#include "krul/eval/pass_phases.hpp"
#include "krul/eval/result_table.hpp"

namespace krul::cli {

void bench_phases(LoadedModel& model, const PhasesOptions& options, const Tool& tool) {
  const auto roofs = eval::measure_pass_roofs(model.backend);
  const auto shape = eval::pass_shape(model.backend);
  eval::TimedBackend timed(model.backend);
  const auto patience = options.patience.begin();
  RoundsNote note;
  Json results = Json::array();
  eval::ResultTable table({{"rows"},
                           {"phase", "", eval::ResultTable::Align::left},
                           {"GFLOP"},
                           {"MB"},
                           {"bound by", "", eval::ResultTable::Align::left},
                           {"bound", "ms"},
                           {"taken", "ms"},
                           {"reached", "%"}});
  for (std::size_t i = 0; i < options.lengths.size(); ++i) {
    const std::size_t length = options.lengths[i];
    expect_fits(model, options.context + length);
    const auto tokens = sample_tokens(model, options.context + length);
    auto cache = timed.make_cache(tokens.size());
    auto batch = timed.make_batch();
    std::vector<float> logits(timed.geometry().vocabulary);
    if (options.context > 0) prefill(timed, cache, batch, std::span(tokens).first(options.context), {});
    const eval::Alternative<eval::PassFigures> pass{"", [&] {
                                                      cache.truncate(options.context);
                                                      (void)timed.take_figures();
                                                      prefill(timed, cache, batch,
                                                              std::span(tokens).subspan(options.context), logits);
                                                      return timed.take_figures();
                                                    }};
    const auto report = run_rounds(tool, "phases of " + std::to_string(length) + " tokens", std::span(&pass, 1),
                                   rounds_of(options.rounds, patience.share_s(options.lengths.size() - i)));
    note.add(report);
    Json phases = Json::array();
    for (const auto& phase : eval::phases_of(shape, eval::typical_pass(report), roofs)) {
      phases.push_back({{"phase", phase.name},
                        {"operations", phase.operations},
                        {"bytes", phase.bytes},
                        {"bound_by", phase.bound_by()},
                        {"bound_ms", phase.bound_s() * 1e3},
                        {"ms", phase.taken_s * 1e3},
                        {"reached", phase.reached()}});
      table.add({std::to_string(length), phase.name, eval::cell(phase.operations / 1e9, 2),
                 eval::cell(phase.bytes / 1e6, 1), phase.bound_by(), eval::cell(phase.bound_s() * 1e3, 2),
                 eval::cell(phase.taken_s * 1e3, 2), eval::cell(phase.reached() * 100, 0)});
    }
    results.push_back({{"tokens", length}, {"context", options.context}, {"phases", phases}, {"noisy", report.noisy}});
  }
  tool.progress("");
  if (tool.json) {
    tool.print({{"results", results},
                {"roofs",
                 {{"matrix_operations_per_s", roofs.matrices},
                  {"attention_operations_per_s", roofs.attention},
                  {"read_bytes_per_s", roofs.reading}}},
                {"run", note.run(model)}});
  } else {
    std::printf("%s%s\nroofs: matrices %.0f GFLOP/s, attention %.0f GFLOP/s, reading %.1f GB/s; %s\n",
                table.text().c_str(), note.text().c_str(), roofs.matrices / 1e9, roofs.attention / 1e9,
                roofs.reading / 1e9, model.backend.identity().kernels.c_str());
  }
}

}  // namespace krul::cli
