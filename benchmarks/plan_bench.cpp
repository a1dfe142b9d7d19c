// Planning a restore: the event-by-event twin first, then one prediction, then whole plans.
#include <benchmark/benchmark.h>

#include "krul/reference/plan.hpp"
#include "krul/restore/restoration_scheduler.hpp"

namespace {

using namespace krul;

/// A model of 30 layers with three KV heads of 64 at one byte a value, one object a layer.
RestoreSizes sizes_of(std::size_t history) {
  RestoreSizes sizes{.history = history, .prompt = 32, .block = 64, .layers = {}};
  StoredLayer layer;
  layer.block_bytes.assign(sizes.blocks(), 64 * 2 * 3 * 66);
  layer.block_object.assign(sizes.blocks(), 0);
  sizes.layers.assign(30, layer);
  return sizes;
}

const Costs costs{
    .link = {.latency_s = 2e-4, .bytes_per_s = 5e7, .core_s_per_byte = 5e-11},
    .layer = {.call_s = 2e-5, .project_row_s = 2e-6, .finish_row_s = 1e-5, .attend_pair_s = 1e-8, .decode_row_s = 1e-7},
    .pass_s = 2e-3};

void reference_predict(benchmark::State& state) {
  const RestoreSizes sizes = sizes_of(static_cast<std::size_t>(state.range(0)));
  const RestorePlan plan = RestorationScheduler(Pyramid(0.4)).plan(sizes, costs);
  for (auto _ : state) benchmark::DoNotOptimize(reference::SlowRestore(plan, sizes, costs).run());
}

void predict_one(benchmark::State& state) {
  const RestoreSizes sizes = sizes_of(static_cast<std::size_t>(state.range(0)));
  const RestorePlan plan = RestorationScheduler(Pyramid(0.4)).plan(sizes, costs);
  const Predictor predictor(sizes, costs);
  for (auto _ : state) benchmark::DoNotOptimize(predictor(plan.prefix));
}

void plan_default(benchmark::State& state) {
  const RestoreSizes sizes = sizes_of(static_cast<std::size_t>(state.range(0)));
  const RestorationScheduler<> scheduler;
  for (auto _ : state) benchmark::DoNotOptimize(scheduler.plan(sizes, costs));
}

BENCHMARK(reference_predict)->Arg(1000);
BENCHMARK(predict_one)->Arg(1000)->Arg(8000);
BENCHMARK(plan_default)->Arg(1000)->Arg(8000)->Arg(128000);

}  // namespace

BENCHMARK_MAIN();
