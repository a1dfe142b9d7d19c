#include "krul/eval/pass_phases.hpp"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "krul/core/processor.hpp"
#include "krul/eval/machine_roof.hpp"

namespace krul::eval {
namespace {

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

PassPhase bounded(PassPhase phase, double operations_per_s, double bytes_per_s) {
  const double arithmetic_s = phase.operations / operations_per_s, reading_s = phase.bytes / bytes_per_s;
  (arithmetic_s >= reading_s ? phase.arithmetic_s : phase.reading_s) = std::max(arithmetic_s, reading_s);
  return phase;
}

}  // namespace

PassShape pass_shape(const CpuModel& model) {
  const auto bytes = model.weight_bytes();
  return {model.geometry(), model.description().mlp, static_cast<double>(bytes.layers),
          static_cast<double>(bytes.output)};
}

PassRoofs measure_pass_roofs(CpuModel& model) {
  const bool bf16 = attention_arithmetic(model.precision(), Processor::detect()) == ElementType::bf16;
  const auto attention = bf16 ? Precision::bf16 : Precision::f32;
  const auto form = form_of_layers(model.description());
  const auto output_form = has_four_bits(model.description().output->type) ? WeightForm::four_bits : WeightForm::any;
  return {measure_arithmetic_roof(model.precision(), model.workers(), form),
          measure_arithmetic_roof(model.precision(), model.workers(), output_form),
          measure_arithmetic_roof(attention, model.workers()), measure_reading_roof(model.workers())};
}

std::vector<PassPhase> phases_of(const PassShape& shape, const PassFigures& figures, const PassRoofs& roofs) {
  const Geometry& geometry = shape.geometry;
  const auto hidden = static_cast<double>(geometry.hidden), mlp = static_cast<double>(shape.mlp),
             queries = static_cast<double>(geometry.query_heads * geometry.head_dim),
             keys = static_cast<double>(geometry.kv_values()), vocabulary = static_cast<double>(geometry.vocabulary);
  const double projected = hidden * (queries + 2 * keys), finished = hidden * (queries + 3 * mlp),
               output = hidden * vocabulary;
  const double bytes_each = shape.layer_weight_bytes / (static_cast<double>(geometry.layers) * (projected + finished));
  const auto matrix = [&](const char* name, const StepFigures& step, double weights, double bytes, double roof) {
    return bounded(
        {name, 2 * weights * static_cast<double>(step.rows), bytes * static_cast<double>(step.calls), step.seconds},
        roof, roofs.reading);
  };
  std::vector<PassPhase> phases{
      {.name = "embedding", .taken_s = figures.embed.seconds},
      matrix("norm, Q, K, V, rotary", figures.project, projected, projected * bytes_each, roofs.matrices),
      bounded({"attention", 4 * queries * static_cast<double>(figures.attend.keys),
               2 * static_cast<double>(geometry.kv_row_bytes() * figures.attend.all_keys), figures.attend.seconds},
              roofs.attention, roofs.reading),
      matrix("output, norm, MLP", figures.finish, finished, finished * bytes_each, roofs.matrices),
      matrix("logits", figures.logits, output, shape.output_weight_bytes, roofs.output)};
  PassPhase all{.name = "all"};
  for (const PassPhase& phase : phases) {
    all.operations += phase.operations;
    all.bytes += phase.bytes;
    all.taken_s += phase.taken_s;
    all.arithmetic_s += phase.arithmetic_s;
    all.reading_s += phase.reading_s;
  }
  phases.push_back(std::move(all));
  return phases;
}

PassFigures typical_pass(const RoundsReport<PassFigures>& report) {
  PassFigures figures = report.rounds.front().passes.front().front();
  for (const auto step :
       {&PassFigures::embed, &PassFigures::project, &PassFigures::attend, &PassFigures::finish, &PassFigures::logits})
    (figures.*step).seconds = median(report.values(0, [step](const PassFigures& one) { return (one.*step).seconds; }));
  return figures;
}

}  // namespace krul::eval
