#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/backend/computes_on.hpp"
#include "krul/backend/lends_workers.hpp"
#include "krul/compress/coding_numbers.hpp"
#include "krul/compress/decodes_chunks.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/eval/fit_device_costs.hpp"
#include "krul/eval/machine_costs.hpp"
#include "krul/eval/machine_load.hpp"
#include "krul/eval/measure_costs.hpp"
#include "krul/eval/measured_history.hpp"
#include "krul/eval/paired_rounds.hpp"
#include "krul/eval/patience.hpp"
#include "krul/restore/predict.hpp"
#include "krul/store/any_store.hpp"
#include "krul/store/manifest_store.hpp"
#include "krul/store/memory_store.hpp"

namespace krul::eval {

/// What gives way where a model is slow and time is short. Rounds always do.
enum class Hurry : std::uint8_t {
  none,     ///< nothing else: each kind of restore is run once in any case
  shorter,  ///< the length of the history; each kind of restore is run once in any case
  strict,   ///< the same, and what cannot be begun in time is not measured
};

/// How costs are measured.
struct CostMeasurement {
  double seconds = 20;         ///< no round is begun after that
  std::size_t longest = 4096;  ///< tokens of the longest history
  std::size_t prompt = 32;     ///< tokens of a usual prompt, at most
  std::size_t rounds = 3;      ///< in which nobody else keeps the machine busy; two more at most are run to find them
  Hurry hurry = Hurry::shorter;
  std::function<void(const std::string&)> progress = {};  ///< is told what is measured, in words for people
  std::function<void()> before_read = {};  ///< called before each restore from the store, such as to empty a cache
};

/// What strategies' restores decode and costs, which may be none, do not tell yet; each coding once.
/// @param layers  L of the model
[[nodiscard]] inline std::vector<NamedCoding> missing_codings(const std::optional<MachineCosts>& known,
                                                              std::span<const AnyStrategy> strategies,
                                                              std::size_t layers) {
  std::vector<NamedCoding> missing;
  for (const AnyStrategy& strategy : strategies)
    for (NamedCoding& coding : codings_to_measure(strategy.needs(), layers)) {
      const bool twice = std::ranges::any_of(missing, [&](const auto& each) { return each.name == coding.name; });
      if (!twice && (!known || !known->decoding.contains(coding.name))) missing.push_back(std::move(coding));
    }
  return missing;
}

/// Whether a model decodes chunks of a coding itself, where its caches live.
template <ModelBackend B>
[[nodiscard]] bool decodes_itself(B& model, const NamedCoding& coding) {
  if constexpr (DecodesChunks<B>) {
    const auto number = coding.plan.profile ? joint_coding : krul_coding_number(coding.name);
    return number && model.make_decoder(coding.plan.profile).takes(*number);
  } else {
    return false;
  }
}

/// Measures what is missing of a machine's costs: restores of several shapes from memory, then from memory and the
/// store side by side, then what decoding takes, by the cores and by a device that does it itself. All run in rounds,
/// so that a slow minute of the machine meets all alike; rounds in which others were at work are repeated while there
/// is time.
template <ModelBackend B, Clock C = SteadyClock, LoadProbe P = QuietMachine>
class MachineMeter {
 public:
  /// @param store  where conversations will be kept: some are saved there under ids that begin with "calibration-", and
  ///               erased again
  MachineMeter(B& model, AnyStore store, CostMeasurement how = {}, C clock = {}, P probe = P())
      : model_(model),
        team_(model),
        store_(std::move(store)),
        how_(std::move(how)),
        clock_(std::move(clock)),
        probe_(std::move(probe)),
        patience_(how_.seconds, clock_) {}

  /// Adds to costs, which may be none, whatever strategies' restores need and nobody has measured.
  /// @param machine  measured anew where its predictions do not fit. If something fails, it has what was measured until
  ///                 then
  /// @return unsupported if the model's context is below 64 tokens; with Hurry::strict, deadline if there was not time
  ///         for all; the first error of a save or a restore
  /// @complexity about how.seconds, or one restore of each kind
  [[nodiscard]] Status add_missing(std::optional<MachineCosts>& machine, std::span<const AnyStrategy> strategies) {
    if (machine && !machine->fit()) machine.reset();
    const auto missing = missing_codings(machine, strategies, model_.geometry().layers);
    if (machine && missing.empty()) return {};
    const TimePoint start = clock_.now();
    auto history = affordable_history();
    if (!history) return propagate(history);
    constexpr std::size_t enough_for_codings = 1024;
    Meter meter(model_, machine ? std::min(history->longest, enough_for_codings) : history->longest, clock_);
    Status measured;
    if (!machine) {
      auto costs = measure_restores(meter, std::min(history->prompt, how_.prompt));
      if (!costs) return propagate(costs);
      machine = std::move(*costs);
    }
    for (std::size_t i = 0; measured && i < missing.size(); ++i) {
      const std::string& name = missing[i].name;
      const auto soonest = measure_decoding(meter, missing[i], missing.size() - i);
      if (soonest) {
        machine->decoding[name] = soonest->row_s;
        if (computes_on(model_) == Resource::device && soonest->by == Resource::cores)
          machine->decoded_by_cores.insert(name);
      } else {
        measured = propagate(soonest);
      }
    }
    machine->disturbed = machine->disturbed || disturbed_;
    machine->cut_short = machine->cut_short || cut_short_;
    machine->measured_s += seconds(clock_.now() - start);
    return measured;
  }

 private:
  using Meter = CostMeter<B, C>;
  using Restores = std::vector<std::vector<TimedRestore>>;
  using Restore = std::function<Result<TimedRestore>()>;

  [[nodiscard]] Status expect_time() const {
    if (how_.hurry != Hurry::strict || patience_.share_s() > 0) return {};
    return fail(ErrorCode::deadline,
                "there was not time enough to measure all costs; give more, or use a shorter history");
  }

  /// As long as the context, and where it has to be, the time allows.
  [[nodiscard]] Result<MeasuredHistory> affordable_history() {
    const std::size_t context = model_.geometry().context;
    const auto longest = MeasuredHistory::for_context(context, how_.longest);
    if (longest.longest == 0)
      return fail(ErrorCode::unsupported, "a context of " + std::to_string(context) +
                                              " tokens is too short to measure restores with: 64 are needed");
    if (how_.hurry == Hurry::none) return longest;
    const double row_s = seconds_a_row();
    const auto affordable = longest.for_time(row_s, patience_.share_s(), context);
    if (affordable.longest > 0) return affordable;
    if (how_.hurry == Hurry::shorter) return MeasuredHistory::for_context(context, 16);
    return fail(ErrorCode::deadline, "the model takes " + std::to_string(row_s) +
                                         " s a token, too long to measure costs in time; give more");
  }

  /// That the model takes for each of a few tokens, of fewer where it is slow.
  [[nodiscard]] double seconds_a_row() {
    constexpr double long_enough_s = 0.5;
    constexpr std::size_t few = 16;
    auto batch = model_.make_batch();
    for (std::size_t count = 1;; count *= 4) {
      auto cache = model_.make_cache(count);
      const std::vector<Token> tokens(count);
      const double taken_s =
          seconds_taken(clock_, [&] { prefill(model_, cache, batch, std::span<const Token>(tokens), {}); });
      if (taken_s > long_enough_s || count == few) return taken_s / static_cast<double>(count);
    }
  }

  /// Runs restores in rounds.
  /// @param what    is measured, for people
  /// @param shares  of what is left of the time: this measurement may take one of them
  /// @return        [restores, those of the rounds that count]
  [[nodiscard]] Result<Restores> run(const std::string& what, std::span<const Restore> restores, std::size_t shares) {
    std::vector<Alternative<TimedRestore>> alternatives;
    for (const Restore& restore : restores)
      alternatives.push_back({"", [&what, &restore, this] {
                                or_throw(expect_time());
                                if (how_.progress) how_.progress("measuring " + what);
                                return or_throw(restore());
                              }});
    PairedRounds rounds(clock_, probe_,
                        {.clean_rounds = how_.rounds,
                         .most_rounds = how_.rounds + 2,
                         .warm_up_rounds = 0,  // a cold round is no median of three
                         .least_round_s = 0,
                         .patience_s = patience_.share_s(shares)});
    auto report = rounds.template try_run<TimedRestore>(alternatives);
    if (!report) return propagate(report);
    disturbed_ = disturbed_ || report->noisy;
    cut_short_ = cut_short_ || report->cut_short;
    Restores taken(restores.size());
    for (auto& round : report->rounds)
      for (std::size_t i = 0; i < taken.size(); ++i) std::ranges::move(round.passes[i], std::back_inserter(taken[i]));
    return taken;
  }

  [[nodiscard]] Status save_all(Meter& meter, AnyStore& store, std::span<const RestoreShape> shapes) {
    std::size_t saved = 0;
    for (const RestoreShape& shape : shapes) {
      if (shape.history == std::exchange(saved, shape.history)) continue;
      if (auto timely = expect_time(); !timely) return timely;
      const SavePlan plain = SavePlan::separate(Int8Codec{});
      if (auto status = meter.save(store, shape.history, plain, threads()); !status) return status;
    }
    return {};
  }

  /// All but decoding.
  [[nodiscard]] Result<MachineCosts> measure_restores(Meter& meter, std::size_t prompt) {
    const auto shapes = calibration_shapes(meter.longest(), prompt);
    AnyStore memory = MemoryStore();
    if (auto saved = save_all(meter, memory, shapes); !saved) return propagate(saved);
    std::vector<Restore> restores;
    for (const RestoreShape& shape : shapes)
      restores.emplace_back([&meter, &memory, shape] { return meter.restore(memory, shape); });
    const auto near = run("restores from memory", restores, 2);
    if (!near) return propagate(near);
    const bool on_cores = computes_on(model_) == Resource::cores;
    MachineCosts machine{.costs = on_cores ? fit_costs(*near)
                                           : fit_device_costs(*near, 2 * model_.geometry().kv_row_bytes())};
    Restores loading;
    std::ranges::copy_if(*near, std::back_inserter(loading),
                         [](const auto& repeats) { return repeats.front().report.bytes > 0; });
    machine.memory = fit_link(loading);
    // A read from memory is a copy and a checksum, all of it on a core that the others do without meanwhile.
    machine.memory.core_s_per_byte = 1 / machine.memory.bytes_per_s / static_cast<double>(threads());
    for (const auto& repeats : *near) machine.explained.push_back(explain(repeats, machine));
    const Status measured = measure_link(meter, memory, shapes, machine);
    for (const RestoreShape& shape : shapes)
      static_cast<void>(erase_conversation(store_, conversation_folder(meter.id_of(shape.history)).value()));
    if (!measured) return propagate(measured);
    return machine;
  }

  /// The same restores from the store and from memory, one after the other, so that what else slows the machine meets
  /// both.
  [[nodiscard]] Status measure_link(Meter& meter, AnyStore& memory, std::span<const RestoreShape> shapes,
                                    MachineCosts& machine) {
    // Restores that mostly load: where the cores compute much, what a byte costs them is lost in the noise of that.
    constexpr double largest_front = 0.2;  // of the history
    if (auto saved = save_all(meter, store_, shapes); !saved) return saved;
    std::vector<Restore> restores;
    for (const RestoreShape& shape : shapes) {
      if (shape.front > largest_front || shape.prompt != shapes.front().prompt) continue;
      restores.emplace_back([&meter, shape, this] {
        if (how_.before_read) how_.before_read();
        return meter.restore(store_, shape);
      });
      restores.emplace_back([&meter, &memory, shape] { return meter.restore(memory, shape); });
    }
    auto both = run("restores from the store", restores, 2);
    if (!both) return propagate(both);
    Restores from_store, from_memory;
    for (auto& repeats : *both)
      (from_store.size() == from_memory.size() ? from_store : from_memory).push_back(std::move(repeats));
    machine.costs.link = fit_link(from_store);
    machine.costs.link.open_s = extra_opening_s(from_store, from_memory, machine.costs.link);
    machine.costs.link.core_s_per_byte =
        machine.memory.core_s_per_byte + extra_core_s_per_byte(from_store, from_memory);
    return {};
  }

  /// What costs say of a restore from memory.
  [[nodiscard]] static ExplainedRestore explain(const std::vector<TimedRestore>& repeats, const MachineCosts& machine) {
    std::vector<double> measured_s;
    for (const TimedRestore& restore : repeats) measured_s.push_back(restore.report.total_s());
    Costs costs = machine.costs;
    costs.link = machine.memory;
    const auto& [shape, sizes, manifest_bytes, report] = repeats.front();
    return {shape.history, report.plan.prefix.front(), shape.prompt, median(measured_s),
            predict(report.plan, sizes, costs).first_token_s + predict_opening_s(costs, manifest_bytes)};
  }

  /// How rows of a coding become rows of the cache again.
  struct Decoding {
    Resource by = Resource::cores;  ///< who decodes what the device could decode, too
    double row_s = 0;               ///< to decode a stored row of one layer, with all workers at it
    double loaded_s = 0;            ///< all decoding and copying of one restore
  };

  /// By the cores, and where the device decodes such rows itself, also by that.
  /// @param shares  as run
  /// @return        what brings rows to the cache sooner
  [[nodiscard]] Result<Decoding> measure_decoding(Meter& meter, const NamedCoding& coding, std::size_t shares) {
    AnyStore memory = MemoryStore();
    const RestoreShape shape{std::max<std::size_t>(meter.longest() / 4, 1), 0, 1};
    if (auto timely = expect_time(); !timely) return propagate(timely);
    if (auto saved = meter.save(memory, shape.history, coding.plan, threads()); !saved) return propagate(saved);
    const CodingSet codings(coding.plan.profile, {coding.plan.coding, coding.plan.pair_coding});
    std::vector<RestoreShape> ways = {shape};
    if (decodes_itself(model_, coding)) {
      ways.push_back(shape);
      ways.back().decode = Resource::device;
    }
    std::vector<Restore> restores;
    for (const RestoreShape& way : ways)
      restores.emplace_back([&meter, &memory, &codings, way] { return meter.restore(memory, way, codings); });
    const auto measured = run("how " + coding.name + " is decoded", restores, shares);
    if (!measured) return propagate(measured);
    std::vector<Decoding> found;
    for (std::size_t i = 0; i < ways.size(); ++i) found.push_back(decoding_of(ways[i].decode, (*measured)[i]));
    return *std::ranges::min_element(found, {}, &Decoding::loaded_s);
  }

  /// @param repeats  of one restore that loads all rows
  [[nodiscard]] static Decoding decoding_of(Resource by, const std::vector<TimedRestore>& repeats) {
    std::vector<double> decoded_s, loaded_s;
    for (const TimedRestore& restore : repeats) {
      const auto& report = restore.report;
      decoded_s.push_back(0);
      for (const Event& event : report.timeline.events())
        if (event.name == "decode") decoded_s.back() += event.end_s - event.begin_s;
      loaded_s.push_back(decoded_s.back() + report.timeline.busy_s(Resource::copy));
    }
    const TimedRestore& any = repeats.front();
    return {by, median(decoded_s) / static_cast<double>(any.shape.history * any.sizes.layers.size()), median(loaded_s)};
  }

  [[nodiscard]] std::size_t threads() const { return team_.workers().threads(); }

  B& model_;
  TeamFor<B> team_;
  AnyStore store_;
  CostMeasurement how_;
  C clock_;
  P probe_;
  Patience<C> patience_;
  bool disturbed_ = false, cut_short_ = false;
};

/// MachineMeter::add_missing for a machine that nobody else uses.
/// @param known  nothing yet, or what was measured before
/// @return       as MachineMeter::add_missing
template <ModelBackend B, ConversationStore S, Clock C = SteadyClock>
[[nodiscard]] Result<MachineCosts> measure_costs(B& model, S& store, const std::vector<AnyStrategy>& strategies,
                                                 std::optional<MachineCosts> known = {},
                                                 const CostMeasurement& how = {}) {
  MachineMeter<B, C> meter(model, AnyStore::borrowed(store), how);
  if (auto status = meter.add_missing(known, strategies); !status) return propagate(status);
  return std::move(*known);
}

}  // namespace krul::eval
