#include "krul/eval/machine_roof.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "krul/core/aligned_buffer.hpp"
#include "krul/core/clock.hpp"
#include "krul/model/krul_kernels.hpp"

namespace krul::eval {
namespace {

/// Seconds of the fastest of several calls of task(index, worker), one for each thread at once.
template <class Task>
double fastest(Workers& workers, Task&& task) {
  double best = 1e9;
  for (int round = 0; round < 6; ++round) {
    const TimePoint start = SteadyClock{}.now();
    workers.parallel_for(workers.threads(), task);
    best = std::min(best, seconds(SteadyClock{}.now() - start));
  }
  return best;
}

}  // namespace

double measure_arithmetic_roof(Precision precision, Workers& workers, WeightForm form) {
  const KrulKernels kernels(precision);
  std::atomic<double> operations{0};
  const double taken = fastest(workers, [&](std::size_t index, std::size_t) {
    const double done = kernels.multiply_registers(1'000'000, form);
    if (index == 0) operations = done;
  });
  return operations * static_cast<double>(workers.threads()) / taken;
}

double measure_reading_roof(Workers& workers) {
  constexpr std::size_t bytes = std::size_t{256} << 20;
  constexpr std::size_t line = 64, ahead = 2048;
  const AlignedBuffer memory(bytes);
  std::memset(memory.data(), 1, bytes);
  std::atomic<std::uint64_t> sum{0};
  const std::size_t part = bytes / workers.threads() / (line * 8) * (line * 8);
  const double taken = fastest(workers, [&](std::size_t index, std::size_t) {
    using Wide [[gnu::vector_size(line)]] = std::uint64_t;
    Wide sums[8] = {};
    const std::byte* from = memory.data() + index * part;
    for (const std::byte* const end = from + part; from < end; from += 8 * line)
      for (std::size_t i = 0; i < 8; ++i) {
        __builtin_prefetch(from + i * line + ahead);
        Wide values;
        std::memcpy(&values, from + i * line, line);
        sums[i] += values;
      }
    for (std::size_t i = 1; i < 8; ++i) sums[0] += sums[i];
    sum += sums[0][0];
  });
  return static_cast<double>(part * workers.threads()) / taken;
}

}  // namespace krul::eval
