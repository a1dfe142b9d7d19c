#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "bench.hpp"
#include "krul/backend/forward.hpp"
#include "krul/eval/machine_roof.hpp"
#include "krul/eval/result_table.hpp"
#include "krul/eval/timed_backend.hpp"
#include "run_rounds.hpp"

namespace krul::cli {
namespace {

/// What one part of a pass cannot do without.
struct Work {
  double operations = 0;
  double bytes = 0;  ///< read from memory at least: weights once a layer, K and V once a layer
};

/// A part of a pass beside its bound, or all of it, bound by the sum of what bounds its parts.
struct Phase {
  std::string name;
  Work work;
  double taken_s = 0;
  double arithmetic_s = 0, reading_s = 0;  ///< of the bound: a part is bound by one of them, and the other is 0
  [[nodiscard]] double bound_s() const { return arithmetic_s + reading_s; }
};

Phase part_of_pass(std::string name, const Work& work, double taken_s, double operations_per_s, double bytes_per_s) {
  const double arithmetic_s = work.operations / operations_per_s, reading_s = work.bytes / bytes_per_s;
  const bool by_arithmetic = arithmetic_s >= reading_s;
  return {std::move(name), work, taken_s, by_arithmetic ? arithmetic_s : 0, by_arithmetic ? 0 : reading_s};
}

/// Operations a second of the layers' matrices, of the one that makes logits, and of attention; bytes a second.
struct Roofs {
  double matrices, output, attention, reading;
};

/// Of four bits where most weights of the layers are.
WeightForm form_of_layers(const DecoderFile& model) {
  std::int64_t more = 0;
  for (const auto& layer : model.layers)
    for (const auto* tensor : {layer.query, layer.key, layer.value, layer.output, layer.gate, layer.up, layer.down}) {
      const auto values = static_cast<std::int64_t>(tensor->values());
      more += has_four_bits(tensor->type) ? values : -values;
    }
  return more > 0 ? WeightForm::four_bits : WeightForm::any;
}

Roofs measure_roofs(CpuModel& model) {
  const bool bf16 = attention_arithmetic(model.precision(), Processor::detect()) == ElementType::bf16;
  const auto attention = bf16 ? Precision::bf16 : Precision::f32;
  const auto form = form_of_layers(model.description());
  const auto output_form = has_four_bits(model.description().output->type) ? WeightForm::four_bits : WeightForm::any;
  return {eval::measure_arithmetic_roof(model.precision(), model.workers(), form),
          eval::measure_arithmetic_roof(model.precision(), model.workers(), output_form),
          eval::measure_arithmetic_roof(attention, model.workers()), eval::measure_reading_roof(model.workers())};
}

/// The parts of one pass, and all of it.
std::vector<Phase> phases_of(const CpuModel& model, const eval::PassFigures& figures, const Roofs& roofs) {
  const Geometry& geometry = model.geometry();
  const auto hidden = static_cast<double>(geometry.hidden), mlp = static_cast<double>(model.description().mlp),
             queries = static_cast<double>(geometry.query_heads * geometry.head_dim),
             keys = static_cast<double>(geometry.kv_values()), vocabulary = static_cast<double>(geometry.vocabulary);
  const double projected = hidden * (queries + 2 * keys), finished = hidden * (queries + 3 * mlp),
               output = hidden * vocabulary;
  const auto bytes = model.weight_bytes();
  const double bytes_each =
      static_cast<double>(bytes.layers) / (static_cast<double>(geometry.layers) * (projected + finished));
  const double output_bytes_each = static_cast<double>(bytes.output) / output;
  const auto matrix = [&](const char* name, const eval::StepFigures& step, double weights, double weight_bytes,
                          double roof) {
    const Work work{2 * weights * static_cast<double>(step.rows),
                    weights * weight_bytes * static_cast<double>(step.calls)};
    return part_of_pass(name, work, step.seconds, roof, roofs.reading);
  };
  const Work attended{4 * queries * static_cast<double>(figures.attend.keys),
                      2 * static_cast<double>(geometry.kv_row_bytes() * figures.attend.all_keys)};
  std::vector<Phase> phases{{"embedding", {}, figures.embed.seconds},
                            matrix("norm, Q, K, V, rotary", figures.project, projected, bytes_each, roofs.matrices),
                            part_of_pass("attention", attended, figures.attend.seconds, roofs.attention, roofs.reading),
                            matrix("output, norm, MLP", figures.finish, finished, bytes_each, roofs.matrices),
                            matrix("logits", figures.logits, output, output_bytes_each, roofs.output)};
  Phase all{"all", {}};
  for (const auto& phase : phases) {
    all.work.operations += phase.work.operations;
    all.work.bytes += phase.work.bytes;
    all.arithmetic_s += phase.arithmetic_s;
    all.reading_s += phase.reading_s;
    all.taken_s += phase.taken_s;
  }
  phases.push_back(all);
  return phases;
}

}  // namespace

void bench_phases(LoadedModel& model, const PhasesOptions& options, const Tool& tool) {
  const Roofs roofs = measure_roofs(model.backend);
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
    eval::PassFigures figures = report.rounds.front().passes.front().front();
    for (const auto step : {&eval::PassFigures::embed, &eval::PassFigures::project, &eval::PassFigures::attend,
                            &eval::PassFigures::finish, &eval::PassFigures::logits})
      (figures.*step).seconds =
          eval::median(report.values(0, [step](const eval::PassFigures& one) { return (one.*step).seconds; }));
    Json phases = Json::array();
    for (const auto& phase : phases_of(model.backend, figures, roofs)) {
      const double bound = phase.bound_s(), reached = phase.taken_s > 0 ? bound / phase.taken_s : 0;
      const char* by = bound == 0 ? "" : phase.arithmetic_s >= phase.reading_s ? "arithmetic" : "reading";
      phases.push_back({{"phase", phase.name},
                        {"operations", phase.work.operations},
                        {"bytes", phase.work.bytes},
                        {"bound_by", by},
                        {"bound_ms", bound * 1e3},
                        {"ms", phase.taken_s * 1e3},
                        {"reached", reached}});
      table.add({std::to_string(length), phase.name, eval::cell(phase.work.operations / 1e9, 2),
                 eval::cell(phase.work.bytes / 1e6, 1), by, eval::cell(bound * 1e3, 2),
                 eval::cell(phase.taken_s * 1e3, 2), eval::cell(reached * 100, 0)});
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
