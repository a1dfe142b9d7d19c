// The estimator at SmolLM2's shape on synthetic softmax rows: 1,024 tokens of prefill, and decode rows after them.
// `core_us_per_token` is the whole process's processor time, so it counts the thread that reduces.
#include <benchmark/benchmark.h>
#include <ctime>

#include <cmath>
#include <numeric>
#include <vector>

#include "krul/similarity/sketched_gram.hpp"
#include "krul/similarity/tokenwise_similarity_estimator.hpp"

namespace {

using namespace krul;

constexpr std::size_t tokens = 1024;

Geometry shape() {
  Geometry geometry;
  geometry.layers = 30;
  geometry.query_heads = 9;
  return geometry;
}

double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// Rows [begin, end) of all heads, the same for every layer: [H, rows, end].
std::vector<float> softmax_rows(std::size_t begin, std::size_t end) {
  std::vector<float> weights;
  for (std::size_t head = 0; head < shape().query_heads; ++head)
    for (std::size_t query = begin; query < end; ++query) {
      std::vector<float> row(end);
      float sum = 0;
      for (std::size_t key = 0; key <= query; ++key)
        sum += row[key] = std::exp(3 * std::sin(static_cast<float>(key * 7 + query * 3 + head)));
      for (float& weight : row) weight /= sum;
      weights.insert(weights.end(), row.begin(), row.end());
    }
  return weights;
}

struct Pass {
  std::vector<Position> queries;
  std::vector<float> weights;
};

std::vector<Pass> passes(std::size_t begin, std::size_t end, std::size_t rows) {
  std::vector<Pass> all;
  for (; begin < end; begin += rows) {
    Pass pass{std::vector<Position>(rows), softmax_rows(begin, begin + rows)};
    std::iota(pass.queries.begin(), pass.queries.end(), static_cast<Position>(begin));
    all.push_back(std::move(pass));
  }
  return all;
}

/// @param rows  of a pass; 1 is decoding at tokens - 1
template <class Metric>
void observe(benchmark::State& state) {
  const auto rows = static_cast<std::size_t>(state.range(0));
  const auto all = rows == 1 ? passes(tokens - 1, tokens, 1) : passes(0, tokens, rows);
  TokenwiseSimilarityEstimator<Metric> estimator(shape());
  double seconds = 0;
  std::size_t seen = 0;
  for (auto _ : state) {
    const double start = processor_seconds();
    for (const Pass& pass : all)
      for (std::size_t layer = 0; layer < shape().layers; ++layer)
        estimator(AttentionBlock{layer, pass.queries, pass.queries.back() + std::size_t{1}, shape().query_heads,
                                 pass.weights});
    if (rows > 1) benchmark::DoNotOptimize(estimator.statistics());
    seconds += processor_seconds() - start;
    seen += rows == 1 ? 1 : tokens;
  }
  state.counters["core_us_per_token"] = 1e6 * seconds / static_cast<double>(seen);
  state.counters["bytes"] = static_cast<double>(estimator.metric().bytes());
}

BENCHMARK_TEMPLATE(observe, ExactGram)->Arg(128)->Arg(32)->Arg(1)->UseRealTime();
BENCHMARK_TEMPLATE(observe, SketchedGram)->Arg(128)->Arg(32)->Arg(1)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
