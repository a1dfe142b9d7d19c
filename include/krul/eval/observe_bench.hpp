#pragma once

#include <algorithm>
#include <cstddef>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/eval/observed_metric.hpp"
#include "krul/eval/paired_rounds.hpp"
#include "krul/eval/process_clock.hpp"
#include "krul/similarity/observe.hpp"
#include "krul/similarity/row_attention_estimator.hpp"

namespace krul::eval {

/// What one way to watch a forward pass takes, in seconds.
struct ObservedTimes {
  double prefill_s = 0;
  double prefill_core_s = 0;  ///< of all cores
  double step_s = 0;          ///< of one decode step, on average
  double step_core_s = 0;
};

/// Sees every row and does nothing: the price of having the weights at all.
struct IdleObserver {
  std::size_t piece = any_rows;  ///< tokens of a pass
  void operator()(const AttentionBlock&) const noexcept {}
  void observe_from(Position) const noexcept {}
  [[nodiscard]] std::size_t block_rows() const noexcept { return piece; }
};
static_assert(TokenwiseObserver<IdleObserver>);

/// What observing is measured with.
struct ObserveSettings {
  std::vector<ObservedMetric> metrics = {};
  std::size_t decoded = 64;     ///< decode steps behind the prefill
  ExactGramOptions exact = {};  ///< of the exact metric, but not in what it is compared with
};

/// What one way to watch came to. Medians over rounds.
struct ObservedCost {
  std::string name;
  ObservedTimes times;
  double added_core_s = 0;                  ///< of the prefill, over the pass that nobody watches
  double prefill_ratio = 1;                 ///< of its wall time to that of the pass that nobody watches
  double step_core_ratio = 1;               ///< the same of a step's processor time
  std::optional<Agreement> agreement = {};  ///< of a metric: the worst correlation and the mean error of all texts
  std::size_t bytes = 0;                    ///< that the metric holds
};

/// Measures what gathering attention statistics costs beside a forward pass, and how good estimates are: a pass that
/// nobody watches, one whose weights are lent to nobody, both also in the exact metric's pieces, one that gathers what
/// rows receive, then each metric.
template <ModelBackend B, Clock Wall = SteadyClock, Clock Cores = ProcessClock>
class ObserveBench {
 public:
  /// @param model  kept by reference
  /// @throws PreconditionError if the model has fewer than three layers, whose pairs have no order
  ObserveBench(B& model, ObserveSettings settings, Wall wall = {}, Cores cores = {})
      : model_(model), settings_(std::move(settings)), wall_(std::move(wall)), cores_(std::move(cores)) {
    expects(model.geometry().layers >= 3, "ObserveBench: estimates are compared by the order of pairs of layers");
    for (const ObservedMetric& metric : settings_.metrics) metrics_.push_back({metric, estimator(metric), {}, 0});
  }
  ObserveBench(const ObserveBench&) = delete;  // what it times refers to it
  ObserveBench& operator=(const ObserveBench&) = delete;

  /// Compares each metric with the exact distances of a text.
  /// @throws PreconditionError if the text has no token before the decode steps; NotFiniteError if the model's numbers
  ///         are not finite
  void compare_on(std::span<const Token> text) {
    Pass pass(*this, text);
    AnyEstimator reference = make_estimator(model_.geometry(), {.name = "exact"}, {.negligible = 0});
    const AttentionStatistics exact = pass.statistics(reference);
    for (Metric& metric : metrics_) {
      AnyEstimator fresh = estimator(metric.metric);
      metric.agreements.push_back(agreement(pass.statistics(fresh), exact));
      metric.bytes = std::visit([](const auto& one) { return one.metric().bytes(); }, fresh);
    }
  }

  /// The ways to watch a pass over a text; they refer to this. The metrics' estimators keep their memory from one
  /// round to the next, as from turn to turn.
  /// @throws PreconditionError if the text has no token before the decode steps
  [[nodiscard]] std::vector<Alternative<ObservedTimes>> alternatives(std::span<const Token> text) {
    Pass& pass = timed_.emplace(*this, text);
    const std::size_t rows = settings_.exact.most_rows;
    const std::string pieces = "in pieces of " + std::to_string(rows);
    std::vector<Alternative<ObservedTimes>> ways = {
        {"unobserved", [&pass] { return pass.unobserved(2048); }},
        {pieces, [&pass, rows] { return pass.unobserved(rows); }},
        {"weights only", [&pass] { return pass.observed(IdleObserver{}); }},
        {"weights " + pieces, [&pass, rows] { return pass.observed(IdleObserver{rows}); }},
        {"row attention", [&pass, this] {
           RowAttentionEstimator of_rows(model_.geometry(), bands());
           return pass.observed(of_rows);
         }}};
    first_metric_ = ways.size();
    for (Metric& metric : metrics_)
      ways.push_back({metric.metric.name, [&pass, &metric] {
                        return std::visit([&](auto& one) { return pass.observed(one); }, metric.estimator);
                      }});
    return ways;
  }

  /// What the alternatives came to.
  /// @param report  of rounds over them
  [[nodiscard]] std::vector<ObservedCost> costs(const RoundsReport<ObservedTimes>& report) const {
    const auto typical = [&](std::size_t which, double ObservedTimes::*time) {
      return median(report.values(which, time));
    };
    std::vector<ObservedCost> found;
    for (std::size_t i = 0; i < report.names.size(); ++i) {
      const double core_s = typical(i, &ObservedTimes::prefill_core_s);
      ObservedCost cost{.name = report.names[i],
                        .times = {typical(i, &ObservedTimes::prefill_s), core_s, typical(i, &ObservedTimes::step_s),
                                  typical(i, &ObservedTimes::step_core_s)},
                        .added_core_s = core_s - typical(0, &ObservedTimes::prefill_core_s),
                        .prefill_ratio = report.compare(i, 0, &ObservedTimes::prefill_s).ratio.median,
                        .step_core_ratio = report.compare(i, 0, &ObservedTimes::step_core_s).ratio.median};
      if (i >= first_metric_) {
        auto metric = metrics_.begin();
        std::advance(metric, i - first_metric_);
        cost.bytes = metric->bytes;
        Agreement worst{.correlation = 1};
        for (const Agreement& one : metric->agreements) {
          worst.correlation = std::min(worst.correlation, one.correlation);
          worst.error += one.error / static_cast<double>(metric->agreements.size());
        }
        cost.agreement = worst;
      }
      found.push_back(std::move(cost));
    }
    return found;
  }

 private:
  struct Metric {
    ObservedMetric metric;
    AnyEstimator estimator;
    std::vector<Agreement> agreements;
    std::size_t bytes;
  };

  /// Room for one text: a prefill of all but its last tokens, and these one by one.
  class Pass {
   public:
    Pass(const ObserveBench& bench, std::span<const Token> text)
        : bench_(bench),
          text_(text.begin(), text.end()),
          cache_(bench.model_.make_cache(text.size())),
          batch_(bench.model_.make_batch()),
          logits_(bench.model_.geometry().vocabulary) {
      expects(text.size() > bench.settings_.decoded, "ObserveBench: a text is longer than its decode steps");
    }

    /// @param piece  tokens of a pass
    ObservedTimes unobserved(std::size_t piece) {
      return run([&] { prefill(bench_.model_, cache_, batch_, front(), logits_, piece); }, NullObserver{});
    }
    template <class Observer>
    ObservedTimes observed(Observer&& observer) {
      observer.observe_from(0);
      return run(
          [&] {
            observed_prefill(bench_.model_, cache_, batch_, front(), logits_, observer);
            if constexpr (requires { observer.statistics(); }) static_cast<void>(observer.statistics());
          },
          observer);
    }
    [[nodiscard]] AttentionStatistics statistics(AnyEstimator& estimator) {
      return std::visit(
          [&](auto& one) {
            observed(one);
            return one.statistics();
          },
          estimator);
    }

   private:
    template <class Prefill, class Observer>
    ObservedTimes run(Prefill&& prefill_front, Observer&& observer) {
      ObservedTimes taken;
      cache_.truncate(0);
      const auto timed = [&](double& wall_s, double& core_s, auto&& work) {
        core_s = seconds_taken(bench_.cores_, [&] { wall_s = seconds_taken(bench_.wall_, work); });
      };
      timed(taken.prefill_s, taken.prefill_core_s, prefill_front);
      const std::size_t steps = bench_.settings_.decoded;
      timed(taken.step_s, taken.step_core_s, [&] {
        for (std::size_t i = text_.size() - steps; i < text_.size(); ++i)
          forward(bench_.model_, cache_, batch_, std::span(text_).subspan(i, 1), logits_, observer);
      });
      taken.step_s /= static_cast<double>(steps);
      taken.step_core_s /= static_cast<double>(steps);
      return taken;
    }
    [[nodiscard]] std::span<const Token> front() const {
      return std::span(text_).first(text_.size() - bench_.settings_.decoded);
    }

    const ObserveBench& bench_;
    std::vector<Token> text_;
    typename B::Cache cache_;
    typename B::Batch batch_;
    std::vector<float> logits_;
  };

  /// As many layers as a profile's groups have.
  [[nodiscard]] std::vector<std::size_t> bands() const {
    constexpr std::size_t usual = 8;
    std::vector<std::size_t> layers;
    for (std::size_t left = model_.geometry().layers; left > 0; left -= layers.back())
      layers.push_back(std::min(usual, left));
    return layers;
  }

  [[nodiscard]] AnyEstimator estimator(const ObservedMetric& metric) const {
    return make_estimator(model_.geometry(), metric, settings_.exact);
  }

  B& model_;
  ObserveSettings settings_;
  Wall wall_;
  Cores cores_;
  std::list<Metric> metrics_;  // estimators stay where they are
  std::optional<Pass> timed_;
  std::size_t first_metric_ = 0;
};

}  // namespace krul::eval
