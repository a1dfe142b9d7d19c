// Attention alone at SmolLM2's shape, one layer: rows at the end of a history, on all cores.
#include <benchmark/benchmark.h>

#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "krul/core/half.hpp"
#include "krul/model/attention.hpp"

namespace {

using namespace krul;

/// Args: rows, keys that the last of them sees.
template <Precision precision>
void attend(benchmark::State& state) {
  const auto rows = static_cast<std::size_t>(state.range(0)), keys = static_cast<std::size_t>(state.range(1));
  Geometry geometry;
  geometry.layers = 1;
  geometry.query_heads = 9;
  geometry.kv_heads = 3;
  geometry.head_dim = 64;
  geometry.cache_type = ElementType::f16;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const auto fill = [&](std::size_t n) {
    std::vector<float> values(n);
    for (float& value : values) value = normal(random);
    return values;
  };
  std::vector<Position> positions(rows);
  std::iota(positions.begin(), positions.end(), static_cast<Position>(keys - rows));
  const auto queries = fill(rows * geometry.query_heads * geometry.head_dim);
  const auto cached = fill(keys * geometry.kv_values());
  std::vector<std::byte> key_rows(keys * geometry.kv_row_bytes());
  from_float(geometry.cache_type, cached, key_rows);
  const auto value_rows = key_rows;
  std::vector<float> out(queries.size());
  Workers workers(std::max(1U, std::thread::hardware_concurrency()));
  BlockAttention attention(geometry, workers.threads(), precision);
  for (auto _ : state) {
    attention.attend({positions, queries, {key_rows, value_rows}}, out, workers);
    benchmark::DoNotOptimize(out.data());
  }
  const double seen =
      static_cast<double>(rows) * (2 * static_cast<double>(keys - rows) + static_cast<double>(rows) + 1) / 2;
  const double flop = 4.0 * static_cast<double>(geometry.query_heads * geometry.head_dim) * seen;
  state.counters["GFLOP/s"] = benchmark::Counter(flop * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["GB/s"] = benchmark::Counter(static_cast<double>(2 * key_rows.size()) * 1e-9,
                                              benchmark::Counter::kIsIterationInvariantRate);
}

void shapes(benchmark::internal::Benchmark* bench) {
  for (const int rows : {128, 256, 1024})
    for (const int keys : {1024, 4096}) bench->Args({rows, keys});
  for (const int rows : {1, 8, 32}) bench->Args({rows, 4096});
  bench->Args({1, 8000})->UseRealTime();
}
BENCHMARK_TEMPLATE(attend, Precision::f32)->Apply(shapes);
BENCHMARK_TEMPLATE(attend, Precision::bf16)->Apply(shapes);

}  // namespace

BENCHMARK_MAIN();
