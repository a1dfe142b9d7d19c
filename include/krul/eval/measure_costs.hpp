#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/backend/computes_on.hpp"
#include "krul/backend/forward.hpp"
#include "krul/compress/exact_codec.hpp"
#include "krul/conversation/conversation.hpp"
#include "krul/eval/statistics.hpp"
#include "krul/restore/cost_fit.hpp"
#include "krul/restore/uniform_split.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/strategy/catalogue/load.hpp"

namespace krul::eval {

/// A restore with the same front in every layer.
struct RestoreShape {
  std::size_t history = 0;
  double front = 0;  ///< recomputed share of the history
  std::size_t prompt = 1;
  Resource decode = Resource::cores;  ///< device, where one computes: what it can decode is decoded there
};

/// What one such restore took.
struct TimedRestore {
  RestoreShape shape;
  RestoreSizes sizes;
  std::uint64_t manifest_bytes = 0;
  RestoreReport report;
};

/// Learns the costs of restores by running some: rows are written to fresh memory, weights come back after other work,
/// and a thread reads meanwhile, as in every restore that will be planned.
template <ModelBackend B, Clock C = SteadyClock>
class CostMeter {
 public:
  /// Computes a history once, of `longest` tokens or what half the model's context allows; the part behind the first
  /// 1,024 repeats it, which costs the same.
  /// @throws PreconditionError if the model's context is below 64 tokens
  explicit CostMeter(B& model, std::size_t longest = 4096, C clock = {})
      : model_(model),
        clock_(std::move(clock)),
        longest_(std::min(longest, model.geometry().context / 2)),
        cache_(model.make_cache(longest_)) {
    expects(model.geometry().context >= 64 && longest > 0, "CostMeter: at least 64 tokens of context");
    for (std::size_t i = 0; i < model.geometry().context; ++i)
      tokens_.push_back(static_cast<Token>(i * 7919 % model.geometry().vocabulary));
    const std::size_t computed = std::min<std::size_t>(longest_, 1024);
    auto batch = model.make_batch();
    prefill(model, cache_, batch, std::span<const Token>(tokens_).first(computed), {});
    for (std::size_t from = computed; from < longest_; from += computed)
      copy_rows(cache_, {0, std::min(computed, longest_ - from)}, cache_, from);
    cache_.commit(longest_);
  }

  [[nodiscard]] std::size_t longest() const noexcept { return longest_; }

  /// Saves the first tokens of the history; restore finds them by their number.
  template <ConversationStore S>
  [[nodiscard]] Status save(S& store, std::size_t history, const SavePlan& plan, std::size_t threads) {
    auto part = model_.make_cache(history);
    copy_rows(cache_, {0, history}, part, 0);
    part.commit(history);
    const auto saved = save_as(model_, store, part, std::span<const Token>(tokens_).first(history),
                               {.id = id_of(history), .plan = plan, .threads = threads});
    if (!saved) return propagate(saved);
    return {};
  }

  /// Opens and restores what save has saved of the shape's history.
  /// @param codings  what it was coded with, beside krul's own
  /// @throws PreconditionError if that history was not saved, or a device shall decode that does not compute
  template <ConversationStore S>
  [[nodiscard]] Result<TimedRestore> restore(S& store, const RestoreShape& shape,
                                             const CodingSet& codings = CodingSet()) {
    ConversationOptions options;
    options.strategy = strategy::by_layer("calibration", ExactCodec{}, UniformSplit(shape.front));
    options.codings = codings;
    options.read_only = true;
    options.costs = Costs{.link = {}, .layer = {}, .on = {.compute = computes_on(model_), .decode = shape.decode}};
    auto conversation = Conversation<B, S, C>::open(model_, store, id_of(shape.history), options, clock_);
    if (!conversation) return propagate(conversation);
    expects(shape.history > 0 && conversation->manifest().rows == shape.history, "CostMeter: save that history first");
    logits_.resize(model_.geometry().vocabulary);
    auto report =
        conversation->advance(std::span<const Token>(tokens_).first(shape.history + shape.prompt), std::span(logits_));
    if (!report) return propagate(report);
    return TimedRestore{shape, restore_sizes(conversation->manifest(), shape.history, shape.prompt),
                        conversation->manifest_bytes(), std::move(*report)};
  }

  /// Under which a history of so many tokens is saved.
  [[nodiscard]] static std::string id_of(std::size_t history) { return "calibration-" + std::to_string(history); }

 private:
  void copy_rows(typename B::Cache& from, TokenRange tokens, typename B::Cache& to, std::size_t at) {
    std::vector<std::byte> keys(tokens.size() * model_.geometry().kv_row_bytes()), values(keys.size());
    for (std::size_t layer = 0; layer < model_.geometry().layers; ++layer) {
      from.wait(from.read_kv(layer, tokens, {keys, values}));
      to.wait(to.write_kv(layer, {at, at + tokens.size()}, {keys, values}));
    }
  }

  B& model_;
  C clock_;
  std::size_t longest_;
  typename B::Cache cache_;
  std::vector<Token> tokens_;
  std::vector<float> logits_;
};

/// The shapes that costs of computing are learnt from: fronts and prompts of several lengths over several histories.
/// @param usual  tokens of most prompts; one is four times as long, behind a quarter of the longest history
[[nodiscard]] inline std::vector<RestoreShape> calibration_shapes(std::size_t longest, std::size_t usual = 32) {
  const std::size_t middle = std::max<std::size_t>(longest / 4, 1), little = std::max<std::size_t>(longest / 16, 1);
  return {{little, 1, usual},     {little, 0, usual},     {middle, 1, usual},       {middle, 0.5, usual},
          {middle, 0.25, usual},  {middle, 0.125, usual}, {middle, 0, 1},           {middle, 0, usual},
          {middle, 0, 4 * usual}, {longest, 0, usual},    {longest, 0.0625, usual}, {longest, 0.25, usual}};
}

/// What a layer took in one restore: times in the median over the layers but the last, which runs fewer rows.
[[nodiscard]] inline LayerSample layer_sample(const TimedRestore& restore) {
  const std::size_t layers = restore.sizes.layers.size(), counted = layers > 1 ? layers - 1 : 1;
  const std::size_t front = restore.report.plan.prefix.front(), history = restore.shape.history,
                    prompt = restore.shape.prompt;
  std::map<std::string, std::vector<double>> times;
  for (const auto& event : restore.report.timeline.events())
    if (event.resource == Resource::cores && event.layer && *event.layer < counted) {
      auto& of_layers = times[event.name];
      of_layers.resize(counted);
      of_layers[*event.layer] += event.end_s - event.begin_s;
    }
  const auto typical = [&](const char* name) { return times[name].empty() ? 0 : median(times[name]); };
  const bool only = layers == 1;
  return {.projected_rows = static_cast<double>(front + prompt),
          .finished_rows = only ? 1 : static_cast<double>(front + prompt),
          .pairs =
              only ? static_cast<double>(history + prompt) : attended_pairs(0, front) + attended_pairs(history, prompt),
          .keys = static_cast<double>(history + prompt),
          .decoded_rows = static_cast<double>(history - front),
          .project_s = typical("project"),
          .attend_s = typical("attend"),
          .finish_s = typical("finish"),
          .decode_s = typical("decode")};
}

/// Seconds that the cores worked outside of any layer's steps.
[[nodiscard]] inline double outside_layers_s(const TimedRestore& restore) {
  double seconds = restore.report.busy[Resource::cores];
  for (const auto& event : restore.report.timeline.events())
    if (event.resource == Resource::cores && event.layer) seconds -= event.end_s - event.begin_s;
  return std::max(seconds, 0.0);
}

/// What opening takes once and a byte of the manifest.
/// @param restores  [shapes, repeats], at least one of each
[[nodiscard]] inline Line fit_opening(std::span<const std::vector<TimedRestore>> restores) {
  std::vector<double> manifest_bytes, opening_s;
  for (const auto& repeats : restores) {
    std::vector<double> opening;
    for (const auto& restore : repeats) opening.push_back(restore.report.opening_s);
    manifest_bytes.push_back(static_cast<double>(repeats.front().manifest_bytes));
    opening_s.push_back(median(opening));
  }
  return fit_line(manifest_bytes, opening_s);
}

/// Costs of computing and opening from restores of several shapes, each repeated.
/// @param restores  [shapes, repeats], read from memory
/// @throws          PreconditionError if there are none
[[nodiscard]] inline Costs fit_costs(std::span<const std::vector<TimedRestore>> restores) {
  expects(!restores.empty(), "fit_costs: needs restores");
  std::vector<LayerSample> samples;
  std::vector<double> rows, outside_s;
  for (const auto& repeats : restores) {
    expects(!repeats.empty(), "fit_costs: each shape needs a restore");
    std::vector<LayerSample> each;
    std::vector<double> outside;
    for (const auto& restore : repeats) {
      each.push_back(layer_sample(restore));
      outside.push_back(outside_layers_s(restore));
    }
    const auto typical = [&](double LayerSample::*time) {
      std::vector<double> times;
      for (const auto& sample : each) times.push_back(sample.*time);
      return median(times);
    };
    LayerSample sample = each.front();
    for (const auto time :
         {&LayerSample::project_s, &LayerSample::attend_s, &LayerSample::finish_s, &LayerSample::decode_s})
      sample.*time = typical(time);
    samples.push_back(sample);
    rows.push_back(sample.projected_rows);
    outside_s.push_back(median(outside));
  }
  Costs costs{.link = {}, .layer = fit_layer_costs(samples)};
  // What happens once for each row, such as clearing its hidden state, is spread over the layers.
  const Line outside = fit_line(rows, outside_s), opening = fit_opening(restores);
  costs.layer.project_row_s += outside.slope / static_cast<double>(restores[0][0].sizes.layers.size());
  costs.pass_s = outside.constant;
  costs.open_s = opening.constant;
  costs.open_s_per_byte = opening.slope;
  return costs;
}

/// What a link takes a request and a byte, from restores that load over it.
/// @param restores  [shapes, repeats]
/// @return          core_s_per_byte is 0: see extra_core_s_per_byte
/// @throws          PreconditionError if there are none, or one did not load
[[nodiscard]] inline LinkCosts fit_link(std::span<const std::vector<TimedRestore>> restores) {
  std::vector<double> bytes, read_s;
  for (const auto& repeats : restores) {
    std::vector<double> each_s;
    double request_bytes = 0;
    for (const auto& restore : repeats) {
      const RestoreReport& report = restore.report;
      expects(report.bytes > 0, "fit_link: needs restores that load");
      const auto requests = static_cast<double>(std::ranges::count_if(
          report.timeline.events(), [](const Event& event) { return event.resource == Resource::link; }));
      each_s.push_back(report.busy[Resource::link] / requests);
      request_bytes = static_cast<double>(report.bytes) / requests;
    }
    bytes.push_back(request_bytes);
    read_s.push_back(median(each_s));
  }
  const Line line = fit_line(bytes, read_s);
  return {.latency_s = line.constant, .bytes_per_s = 1 / std::max(line.slope, 1e-12), .core_s_per_byte = 0};
}

/// How much longer opening takes over one link than over another, beyond a request and the manifest's bytes.
/// @param slow, fast  as extra_core_s_per_byte
/// @param link        what fit_link gave of the slow one
[[nodiscard]] inline double extra_opening_s(std::span<const std::vector<TimedRestore>> slow,
                                            std::span<const std::vector<TimedRestore>> fast, const LinkCosts& link) {
  expects(!slow.empty() && slow.size() == fast.size(), "extra_opening_s: needs the same restores over both");
  std::vector<double> extra;
  for (std::size_t i = 0; i < slow.size(); ++i)
    for (std::size_t k = 0; k < std::min(slow[i].size(), fast[i].size()); ++k)
      extra.push_back(slow[i][k].report.opening_s - fast[i][k].report.opening_s - link.latency_s -
                      static_cast<double>(slow[i][k].manifest_bytes) / link.bytes_per_s);
  expects(!extra.empty(), "extra_opening_s: needs restores");
  return std::max(median(extra), 0.0);
}

/// How much longer the cores work for each byte that comes over one link instead of another.
/// @param slow, fast  [shapes, repeats] the same restores over both, in the same rounds, so that what else slows the
///                    machine meets both
/// @throws            PreconditionError if they are not equally many, there are none, or one did not load
[[nodiscard]] inline double extra_core_s_per_byte(std::span<const std::vector<TimedRestore>> slow,
                                                  std::span<const std::vector<TimedRestore>> fast) {
  expects(!slow.empty() && slow.size() == fast.size(), "extra_core_s_per_byte: needs the same restores over both");
  std::vector<double> extra;
  for (std::size_t i = 0; i < slow.size(); ++i) {
    expects(slow[i].size() == fast[i].size(), "extra_core_s_per_byte: needs the same restores over both");
    for (std::size_t k = 0; k < slow[i].size(); ++k) {
      expects(slow[i][k].report.bytes > 0, "extra_core_s_per_byte: needs restores that load");
      extra.push_back((slow[i][k].report.busy[Resource::cores] - fast[i][k].report.busy[Resource::cores]) /
                      static_cast<double>(slow[i][k].report.bytes));
    }
  }
  return std::max(median(extra), 0.0);
}

}  // namespace krul::eval
