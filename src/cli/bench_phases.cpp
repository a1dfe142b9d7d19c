#include <cstdio>
#include <string>

#include "bench.hpp"
#include "json_table.hpp"
#include "krul/eval/pass_phases.hpp"

namespace krul::cli {

void bench_phases(LoadedModel& model, const PassesOptions& options, const Tool& tool) {
  CpuModel& backend = on_processor(model, "--phases");
  const auto roofs = eval::measure_pass_roofs(backend);
  const auto shape = eval::pass_shape(backend);
  eval::TimedBackend timed(backend);
  RoundsNote note;
  Json results = Json::array(), lines = Json::array();
  for_each_length(options, model, timed, [&](std::size_t length, auto& bench, const auto& rules) {
    const auto pass = [&] {
      static_cast<void>(timed.take_figures());  // of what was before
      static_cast<void>(bench.pass_s());
      return timed.take_figures();
    };
    const auto report = run_rounds_of(tool, "phases of " + std::to_string(length) + " tokens", pass, rules, note);
    Json phases = Json::array();
    for (const auto& phase : eval::phases_of(shape, eval::typical_pass(report), roofs)) {
      phases.push_back({{"phase", phase.name},
                        {"operations", phase.operations},
                        {"bytes", phase.bytes},
                        {"bound_by", phase.bound_by()},
                        {"bound_ms", phase.bound_s() * 1e3},
                        {"ms", phase.taken_s * 1e3},
                        {"reached", phase.reached()}});
      lines.push_back(phases.back());
      lines.back()["rows"] = length;
    }
    results.push_back({{"tokens", length}, {"context", options.context}, {"phases", phases}, {"noisy", report.noisy}});
  });
  if (tool.json)
    return tool.print({{"results", results},
                       {"roofs",
                        {{"matrix_operations_per_s", roofs.matrices},
                         {"attention_operations_per_s", roofs.attention},
                         {"read_bytes_per_s", roofs.reading}}},
                       {"run", note.run(model)}});
  std::printf("%s%s\nroofs: matrices %.0f GFLOP/s, attention %.0f GFLOP/s, reading %.1f GB/s; %s\n",
              table_text(lines, {{{"rows"}, "rows", "", 0},
                                 JsonColumn::text("phase", "phase"),
                                 {{"operations"}, "GFLOP", "", 2, 1e-9},
                                 {{"bytes"}, "MB", "", 1, 1e-6},
                                 JsonColumn::text("bound_by", "bound by"),
                                 {{"bound_ms"}, "bound", "ms", 2},
                                 {{"ms"}, "taken", "ms", 2},
                                 {{"reached"}, "reached", "%", 0, 100}})
                  .c_str(),
              note.text().c_str(), roofs.matrices / 1e9, roofs.attention / 1e9, roofs.reading / 1e9,
              model.backend.identity().kernels.c_str());
}

}  // namespace krul::cli
