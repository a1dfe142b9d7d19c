#include <cstdio>
#include <ctime>
#include <functional>
#include <list>
#include <memory>
#include <numeric>
#include <variant>

#include "bench.hpp"
#include "krul/eval/result_table.hpp"
#include "krul/similarity/observe.hpp"
#include "krul/similarity/sketched_gram.hpp"
#include "krul/similarity/tokenwise_similarity_estimator.hpp"
#include "number_option.hpp"
#include "run_rounds.hpp"
#include "texts.hpp"

namespace krul::cli {
namespace {

struct ObserveOptions {
  ModelOptions model;
  std::size_t tokens = 1024;
  std::size_t decoded = 64;
  std::string metrics = "exact,exact/16,exact/32,sketch";
  std::vector<std::string> data;
  std::size_t texts = 4;
  std::size_t rows = ExactGramOptions().most_rows;
  float negligible = ExactGramOptions().negligible;
  std::size_t rounds = 7;
  PatienceOption patience{bench_patience_s};
};

/// What one way to watch a forward pass takes.
struct ObservedTimes {
  double prefill_s = 0;
  double prefill_core_s = 0;  // of the whole process
  double step_s = 0;
  double step_core_s = 0;
};

double core_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// Sees every row and does nothing: the price of having the weights at all.
struct IdleObserver {
  std::size_t piece;
  void operator()(const AttentionBlock&) const noexcept {}
  void observe_from(Position) noexcept {}
  [[nodiscard]] std::size_t block_rows() const noexcept { return piece; }
};
static_assert(TokenwiseObserver<IdleObserver>);

/// A model with room for one conversation.
class Watched {
 public:
  Watched(LoadedModel& model, std::vector<Token> tokens, std::size_t decoded)
      : model_(model),
        tokens_(std::move(tokens)),
        decoded_(decoded),
        cache_(model.backend.make_cache(tokens_.size())),
        batch_(model.backend.make_batch()),
        logits_(model.backend.geometry().vocabulary) {}

  /// Prefill of all but the last tokens by `first()`, and these one by one under the observer.
  template <class First, class Observer>
  ObservedTimes run(First&& first, Observer&& observer) {
    ObservedTimes taken;
    cache_.truncate(0);
    double core = core_seconds();
    taken.prefill_s = eval::seconds_taken(SteadyClock{}, first);
    taken.prefill_core_s = core_seconds() - core;
    core = core_seconds();
    taken.step_s = eval::seconds_taken(SteadyClock{}, [&] {
      for (std::size_t i = tokens_.size() - decoded_; i < tokens_.size(); ++i)
        forward(model_.backend, cache_, batch_, std::span(tokens_).subspan(i, 1), logits_, observer);
    });
    taken.step_core_s = core_seconds() - core;
    taken.step_s /= static_cast<double>(decoded_);
    taken.step_core_s /= static_cast<double>(decoded_);
    return taken;
  }

  ObservedTimes unobserved(std::size_t piece) {
    return run([&] { prefill(model_.backend, cache_, batch_, front(), logits_, piece); }, NullObserver{});
  }
  /// @param piece  tokens of a pass
  ObservedTimes idle(std::size_t piece) {
    IdleObserver observer{piece};
    return run([&] { observed_prefill(model_.backend, cache_, batch_, front(), logits_, observer); }, observer);
  }
  /// The estimator keeps its memory from one round to the next, as it does from turn to turn.
  template <class Metric>
  ObservedTimes observed(TokenwiseSimilarityEstimator<Metric>& estimator, AttentionStatistics* statistics) {
    estimator.observe_from(0);
    ObservedTimes taken = run(
        [&] {
          observed_prefill(model_.backend, cache_, batch_, front(), logits_, estimator);
          static_cast<void>(estimator.statistics());
        },
        estimator);
    if (statistics != nullptr) *statistics = estimator.statistics();
    return taken;
  }

 private:
  [[nodiscard]] std::span<const Token> front() const { return std::span(tokens_).first(tokens_.size() - decoded_); }

  LoadedModel& model_;
  std::vector<Token> tokens_;
  std::size_t decoded_;
  CpuModel::Cache cache_;
  CpuModel::Batch batch_;
  std::vector<float> logits_;
};

/// "exact", "sketch", or one of them on one of s rows, "exact/16".
struct MetricName {
  std::string name;
  bool exact = true;
  std::size_t every = 1;
};

std::vector<MetricName> metric_names(const std::string& list) {
  std::vector<MetricName> found;
  std::stringstream items(list);
  for (std::string item; std::getline(items, item, ',');) {
    MetricName metric{item};
    const auto slash = item.find('/');
    const std::string kind = item.substr(0, slash);
    if (slash != std::string::npos)
      metric.every = parse_number<std::size_t>(std::string_view(item).substr(slash + 1)).value_or(0);
    metric.exact = kind == "exact";
    if ((kind != "exact" && kind != "sketch") || metric.every == 0)
      throw Failure({ErrorCode::invalid_argument,
                     "\"" + item + "\" is no metric: say exact or sketch, or exact/16 for one of 16 rows"});
    found.push_back(metric);
  }
  return found;
}

using Estimator = std::variant<TokenwiseSimilarityEstimator<ExactGram>, TokenwiseSimilarityEstimator<SketchedGram>>;

Estimator make_estimator(const Geometry& geometry, const MetricName& metric, const ExactGramOptions& exact) {
  if (metric.exact) return TokenwiseSimilarityEstimator(geometry, ExactGram(geometry, exact), metric.every);
  return TokenwiseSimilarityEstimator(geometry, SketchedGram(geometry), metric.every);
}

std::vector<double> distances(const AttentionStatistics& statistics) {
  std::vector<double> found;
  for (std::size_t i = 0; i < statistics.layers; ++i)
    for (std::size_t j = i + 1; j < statistics.layers; ++j) found.push_back(statistics.distance(i, j));
  return found;
}

/// How close estimated distances come to the exact ones.
struct Agreement {
  double correlation = 0;  // by rank
  double error = 0;        // mean, relative
};

Agreement agreement(const AttentionStatistics& estimated, const AttentionStatistics& exact) {
  const auto left = distances(estimated), right = distances(exact);
  Agreement found{eval::rank_correlation(left, right), 0};
  for (std::size_t i = 0; i < left.size(); ++i)
    found.error += std::abs(left[i] / right[i] - 1) / static_cast<double>(left.size());
  return found;
}

/// Conversations of files that are long enough, cut; or the program's own, one after the other.
std::vector<std::vector<Token>> observed_texts(const LoadedModel& model, const ObserveOptions& options,
                                               std::size_t length) {
  std::vector<std::vector<Token>> texts;
  if (options.data.empty()) {
    const auto all = sample_tokens(model, length * options.texts);
    for (auto from = all.begin(); from != all.end(); from += static_cast<std::ptrdiff_t>(length))
      texts.emplace_back(from, from + static_cast<std::ptrdiff_t>(length));
    return texts;
  }
  for (const auto& conversation : load_conversations(options.data)) {
    auto tokens = encode_messages(model, conversation.messages, false);
    if (tokens.size() < length) continue;
    tokens.resize(length);
    texts.push_back(std::move(tokens));
    if (texts.size() == options.texts) return texts;
  }
  throw Failure({ErrorCode::invalid_argument, "only " + std::to_string(texts.size()) + " conversations have " +
                                                  std::to_string(length) +
                                                  " tokens: ask for fewer --texts or --tokens"});
}

void bench_observe(const ObserveOptions& options, const Tool& tool) {
  const auto metrics = metric_names(options.metrics);
  auto model = options.model.load(tool);
  const Geometry& geometry = model.backend.geometry();
  const std::size_t length = options.tokens + options.decoded;
  expect_fits(model, length);
  if (geometry.layers < 3)
    throw Failure({ErrorCode::unsupported,
                   "estimates are compared by the order of pairs of layers, and this model has "
                   "one pair at most; give one of three layers or more"});
  const auto texts = observed_texts(model, options, length);

  const ExactGramOptions gram{.most_rows = options.rows, .negligible = options.negligible};
  std::vector<std::vector<Agreement>> agreements(metrics.size());
  std::vector<std::size_t> bytes(metrics.size());
  for (std::size_t number = 0; number < texts.size(); ++number) {
    tool.progress("agreement on text " + std::to_string(number + 1) + " of " + std::to_string(texts.size()));
    Watched watched(model, texts[number], options.decoded);
    const auto statistics_of = [&](const MetricName& metric, const ExactGramOptions& exact, std::size_t& held) {
      Estimator estimator = make_estimator(geometry, metric, exact);
      return std::visit(
          [&](auto& one) {
            AttentionStatistics statistics;
            watched.observed(one, &statistics);
            held = one.metric().bytes();
            return statistics;
          },
          estimator);
    };
    std::size_t held = 0;
    const auto reference = statistics_of({"exact"}, {.negligible = 0}, held);
    for (std::size_t i = 0; i < metrics.size(); ++i)
      agreements[i].push_back(agreement(statistics_of(metrics[i], gram, bytes[i]), reference));
  }

  Watched watched(model, texts.front(), options.decoded);
  std::vector<eval::Alternative<ObservedTimes>> alternatives;
  alternatives.push_back({"unobserved", [&] { return watched.unobserved(2048); }});
  const std::string pieces = "in pieces of " + std::to_string(options.rows);
  alternatives.push_back({pieces, [&] { return watched.unobserved(options.rows); }});
  alternatives.push_back({"weights only", [&] { return watched.idle(any_rows); }});
  alternatives.push_back({"weights " + pieces, [&] { return watched.idle(options.rows); }});
  const std::size_t first_metric = alternatives.size();
  std::list<Estimator> estimators;
  for (const auto& metric : metrics) {
    Estimator& estimator = estimators.emplace_back(make_estimator(geometry, metric, gram));
    alternatives.push_back({metric.name, [&watched, &estimator] {
                              return std::visit([&](auto& one) { return watched.observed(one, nullptr); }, estimator);
                            }});
  }
  const auto report = run_rounds<ObservedTimes>(
      tool, "forward passes under each metric", alternatives,
      {.clean_rounds = options.rounds, .most_rounds = 2 * options.rounds, .patience_s = options.patience.limit_s});
  tool.progress("");
  RoundsNote note;
  note.add(report);

  Json results = Json::array();
  eval::ResultTable table({{"", "", eval::ResultTable::Align::left},
                           {"prefill", "ms"},
                           {"prefill", "core us/token"},
                           {"added", "core us/token"},
                           {"wall", "ratio"},
                           {"decode", "core us/step"},
                           {"decode", "core ratio"},
                           {"held", "MB"},
                           {"rank", "correlation"},
                           {"error", "%"}});
  const auto tokens = static_cast<double>(options.tokens);
  for (std::size_t i = 0; i < alternatives.size(); ++i) {
    const auto core_us = [&](std::size_t which) {
      return eval::quantile(report.values(which, &ObservedTimes::prefill_core_s), 0.5) * 1e6 / tokens;
    };
    const auto prefill_wall = report.compare(i, 0, &ObservedTimes::prefill_s);
    const auto step = report.compare(i, 0, &ObservedTimes::step_core_s);
    const double added = core_us(i) - core_us(0);
    Json row{{"name", alternatives[i].name},
             {"prefill_ms", prefill_wall.median * 1e3},
             {"core_us_per_token", core_us(i)},
             {"added_core_us_per_token", added},
             {"prefill_ratio", prefill_wall.ratio.median},
             {"step_ms", eval::median(report.values(i, &ObservedTimes::step_s)) * 1e3},
             {"step_core_ms", step.median * 1e3},
             {"step_core_ratio", step.ratio.median}};
    std::string held, correlation, error;
    if (i >= first_metric) {
      double worst = 1, mean_error = 0;
      for (const auto& one : agreements[i - first_metric]) {
        worst = std::min(worst, one.correlation);
        mean_error += one.error / static_cast<double>(agreements[i - first_metric].size());
      }
      row["bytes"] = bytes[i - first_metric];
      row["rank_correlation"] = worst;
      row["relative_error"] = mean_error;
      held = eval::cell(static_cast<double>(bytes[i - first_metric]) / 1e6, 1);
      correlation = eval::cell(worst, 4);
      error = eval::cell(mean_error * 100, 2);
    }
    results.push_back(row);
    table.add({alternatives[i].name, eval::cell(prefill_wall.median * 1e3), eval::cell(core_us(i)), eval::cell(added),
               eval::cell(prefill_wall.ratio.median, 3), eval::cell(step.median * 1e6, 0),
               eval::cell(step.ratio.median, 3), held, correlation, error});
  }
  if (tool.json) {
    tool.print({{"results", results}, {"noisy", report.noisy}, {"run", note.run(model)}});
  } else {
    std::printf("%s%s", table.text().c_str(), note.text().c_str());
  }
}

}  // namespace

void add_bench_observe(CLI::App& bench, Tool& tool) {
  auto options = std::make_shared<ObserveOptions>();
  auto* verb = bench.add_subcommand("observe", "what gathering attention statistics costs, and how good estimates are");
  options->model.add_to(*verb);
  verb->add_option("--tokens", options->tokens, "tokens of the prefill")
      ->check(between<std::size_t>(16, 1 << 20))
      ->capture_default_str();
  verb->add_option("--decode", options->decoded, "decode steps after it")
      ->check(between<std::size_t>(1, 1 << 20))
      ->capture_default_str();
  verb->add_option("--metrics", options->metrics, "exact, sketch, or one of s rows: exact/16; separated by commas")
      ->capture_default_str();
  verb->add_option("--block-rows", options->rows,
                   "query rows that the exact metric takes at once; its memory grows with them")
      ->check(between<std::size_t>(1, 1 << 20))
      ->capture_default_str();
  verb->add_option("--negligible", options->negligible,
                   "256 keys that all get less are left out by the exact metric, but not in what it is compared with")
      ->check(between(0.0, 1.0))
      ->capture_default_str();
  verb->add_option("--data", options->data, "JSON-lines files of conversations; the program's own if there are none");
  verb->add_option("--texts", options->texts,
                   "texts on which estimates are compared with exact distances; the worst "
                   "rank correlation and the mean error are printed")
      ->check(between<std::size_t>(1, 1000))
      ->capture_default_str();
  verb->add_option("--rounds", options->rounds, "clean rounds")
      ->check(between<std::size_t>(1, 1000))
      ->capture_default_str();
  options->patience.add_to(*verb);
  verb->callback([options, &tool] { bench_observe(*options, tool); });
}

}  // namespace krul::cli
