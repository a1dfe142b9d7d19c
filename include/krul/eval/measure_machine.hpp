#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "krul/backend/lends_workers.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/eval/machine_costs.hpp"
#include "krul/eval/measure_costs.hpp"
#include "krul/store/manifest_store.hpp"
#include "krul/store/memory_store.hpp"

namespace krul::eval {

/// How costs are measured.
struct CostMeasurement {
  double seconds = 20;         ///< no restore begins after that, but the first one of each kind
  std::size_t longest = 4096;  ///< tokens of the longest history, less where the model is slow
  std::size_t prompt = 32;     ///< tokens of a usual prompt
  std::size_t rounds = 3;
};

namespace detail {

/// Measures what is missing of a machine's costs.
template <ModelBackend B, ConversationStore S, Clock C>
class MachineMeter {
 public:
  MachineMeter(B& model, S& store, const CostMeasurement& how, C clock)
      : model_(model), store_(store), how_(how), clock_(clock), start_(clock.now()), meter_(model, longest(), clock) {}

  /// All but decoding.
  Status measure_restores(MachineCosts& machine) {
    const auto shapes = calibration_shapes(meter_.longest(), how_.prompt);
    MemoryStore memory;
    auto computed = run(memory, shapes);
    if (!computed) return propagate(computed);
    machine.costs = fit_costs(*computed);
    std::vector<RestoreShape> loads;
    for (const RestoreShape& shape : shapes)
      if (shape.front == 0 && shape.prompt == how_.prompt) loads.push_back(shape);
    auto both = run_both(memory, loads);
    for (const RestoreShape& shape : loads)
      static_cast<void>(erase_conversation(store_, conversation_folder(meter_.id_of(shape.history)).value()));
    if (!both) return propagate(both);
    const auto& [from_memory, from_store] = *both;
    const LinkCosts of_memory = fit_link(from_memory);
    machine.costs.link = fit_link(from_store);
    // A read from memory is a copy and a checksum, all of it on a core that the others do without meanwhile.
    machine.costs.link.core_s_per_byte =
        1 / of_memory.bytes_per_s / static_cast<double>(threads()) + extra_core_s_per_byte(from_store, from_memory);
    return {};
  }

  /// Seconds a stored row of one layer takes to become a row of the cache again, with all workers at it.
  Result<double> measure_decoding(const NamedCoding& coding) {
    MemoryStore memory;
    const RestoreShape shape{std::max<std::size_t>(meter_.longest() / 4, 1), 0, 1};
    if (auto saved = meter_.save(memory, shape.history, coding.plan, threads()); !saved) return propagate(saved);
    CodingSet codings(coding.plan.profile, {coding.plan.coding, coding.plan.pair_coding});
    std::vector<double> row_s;
    for (std::size_t round = 0; round < how_.rounds && (round == 0 || in_time()); ++round) {
      const auto restore = meter_.restore(memory, shape, codings);
      if (!restore) return propagate(restore);
      double decoded_s = 0;
      for (const Event& event : restore->report.timeline.events())
        if (event.name == "decode") decoded_s += event.end_s - event.begin_s;
      row_s.push_back(decoded_s / static_cast<double>(shape.history * restore->sizes.layers.size()));
    }
    return median(row_s);
  }

 private:
  using Restores = std::vector<std::vector<TimedRestore>>;

  [[nodiscard]] std::size_t threads() {
    if constexpr (LendsWorkers<B>) {
      return model_.workers().threads();
    } else {
      return 1;
    }
  }
  [[nodiscard]] bool in_time() const { return seconds(clock_.now() - start_) < how_.seconds; }

  /// As long a history as lets a round of all shapes take a third of the time.
  [[nodiscard]] std::size_t longest() {
    constexpr std::size_t few = 16, tokens_of_all_shapes = 3;
    auto cache = model_.make_cache(few);
    auto batch = model_.make_batch();
    const std::vector<Token> tokens(few);
    const TimePoint begin = clock_.now();
    prefill(model_, cache, batch, std::span<const Token>(tokens), {});
    const double row_s = std::max(seconds(clock_.now() - begin) / static_cast<double>(few), 1e-9);
    const double affordable = how_.seconds / 3 / row_s / tokens_of_all_shapes;
    return std::max(few, static_cast<std::size_t>(std::min(affordable, static_cast<double>(how_.longest))));
  }

  /// Every shape once, and again in rounds while there is time.
  template <ConversationStore From>
  Result<Restores> run(From& from, const std::vector<RestoreShape>& shapes) {
    Restores restores(shapes.size());
    std::size_t saved = 0;
    for (std::size_t round = 0; round < how_.rounds && (round == 0 || in_time()); ++round)
      for (std::size_t i = 0; i < shapes.size(); ++i) {
        if (round == 0 && shapes[i].history != std::exchange(saved, shapes[i].history))
          if (auto status = meter_.save(from, shapes[i].history, SavePlan::separate(Int8Codec{}), threads()); !status)
            return propagate(status);
        auto restore = meter_.restore(from, shapes[i]);
        if (!restore) return propagate(restore);
        restores[i].push_back(std::move(*restore));
      }
    return restores;
  }

  /// The same restores from memory and from the store, one after the other, so that what else slows the machine meets
  /// both; [memory, store].
  Result<std::pair<Restores, Restores>> run_both(MemoryStore& memory, const std::vector<RestoreShape>& shapes) {
    std::pair<Restores, Restores> both{Restores(shapes.size()), Restores(shapes.size())};
    const SavePlan plan = SavePlan::separate(Int8Codec{});
    std::size_t saved = 0;
    for (const RestoreShape& shape : shapes)
      if (shape.history != std::exchange(saved, shape.history)) {
        if (auto status = meter_.save(memory, shape.history, plan, threads()); !status) return propagate(status);
        if (auto status = meter_.save(store_, shape.history, plan, threads()); !status) return propagate(status);
      }
    for (std::size_t round = 0; round < how_.rounds && (round == 0 || in_time()); ++round)
      for (std::size_t i = 0; i < shapes.size(); ++i) {
        auto near = meter_.restore(memory, shapes[i]);
        if (!near) return propagate(near);
        auto far = meter_.restore(store_, shapes[i]);
        if (!far) return propagate(far);
        both.first[i].push_back(std::move(*near));
        both.second[i].push_back(std::move(*far));
      }
    return both;
  }

  B& model_;
  S& store_;
  const CostMeasurement& how_;
  C clock_;
  TimePoint start_;
  CostMeter<B, C> meter_;
};

}  // namespace detail

/// Adds to what is known of a machine whatever strategies' restores need and nobody has measured.
/// @param known  nothing yet, or what was measured before; everything is measured anew where its predictions do not fit
/// @param store  where conversations will be kept: some are saved there under ids that begin with "calibration-", and
///               erased again
/// @return       the first error of a save or a restore
/// @throws       PreconditionError if the model's context is below 64 tokens
/// @complexity   about how.seconds, or one restore of each kind
template <ModelBackend B, ConversationStore S, Clock C = SteadyClock>
[[nodiscard]] Result<MachineCosts> measure_costs(B& model, S& store, const std::vector<AnyStrategy>& strategies,
                                                 std::optional<MachineCosts> known = {},
                                                 const CostMeasurement& how = {}) {
  if (known && !known->fit()) known.reset();
  std::vector<NamedCoding> missing;
  for (const AnyStrategy& strategy : strategies)
    for (NamedCoding& coding : codings_to_measure(strategy.needs(), model.geometry().layers)) {
      const bool twice = std::ranges::any_of(missing, [&](const auto& each) { return each.name == coding.name; });
      if (!twice && (!known || !known->decoding.contains(coding.name))) missing.push_back(std::move(coding));
    }
  if (known && missing.empty()) return *known;
  detail::MachineMeter<B, S, C> meter(model, store, how, C{});
  MachineCosts machine = known.value_or(MachineCosts{});
  if (!known)
    if (auto status = meter.measure_restores(machine); !status) return propagate(status);
  for (const NamedCoding& coding : missing) {
    const auto row_s = meter.measure_decoding(coding);
    if (!row_s) return propagate(row_s);
    machine.decoding[coding.name] = *row_s;
  }
  return machine;
}

}  // namespace krul::eval
