#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "krul/core/error.hpp"

namespace krul::eval {

/// What all processors did since the machine started, in clock ticks (10 ms on Linux).
struct ProcessorTimes {
  std::uint64_t busy = 0;   ///< user, nice, system, interrupts
  std::uint64_t steal = 0;  ///< taken away by the hypervisor
  std::uint64_t total = 0;  ///< busy, stolen and idle
  friend bool operator==(const ProcessorTimes&, const ProcessorTimes&) = default;
};

/// Reads the first line of /proc/stat; guest time is part of user time and not counted twice.
[[nodiscard]] Result<ProcessorTimes> parse_processor_times(std::string_view proc_stat);

/// Reads /proc/PID/stat: ticks in user and kernel mode of all threads and of the children waited for.
/// The command's name may hold spaces and parentheses.
[[nodiscard]] Result<std::uint64_t> parse_process_ticks(std::string_view proc_pid_stat);

/// The machine's times and those of the processes under measurement, taken together.
struct LoadSample {
  ProcessorTimes machine;
  std::uint64_t own = 0;  ///< ticks
};

/// Share of all processor time between two samples that others took: other processes and the hypervisor, in [0, 1].
/// Resolution is one tick, so what lies between should last half a second. 0 if not one tick has passed.
[[nodiscard]] double foreign_share(const LoadSample& before, const LoadSample& after);

/// What tells how busy the machine is.
template <class P>
concept LoadProbe = requires(P& probe) {
  { probe.sample() } -> std::same_as<Result<LoadSample>>;
};

/// Reads this machine's /proc. "Own" are this process and those named.
class MachineLoad {
 public:
  explicit MachineLoad(std::vector<int> also_own = {}) : also_own_(std::move(also_own)) {}
  /// Fails with `io` where /proc cannot be read.
  [[nodiscard]] Result<LoadSample> sample() const;

 private:
  std::vector<int> also_own_;
};
static_assert(LoadProbe<MachineLoad>);

/// A machine that nobody else uses, or whose load is not asked for: every round is clean.
struct QuietMachine {
  [[nodiscard]] Result<LoadSample> sample() const { return LoadSample{}; }
};
static_assert(LoadProbe<QuietMachine>);

/// What every row of results names: ratios taken on different machines do not compare.
struct MachineDescription {
  std::string processor;  ///< as the processor calls itself
  int family = 0;         ///< tells generations apart where the name does not
  int model = 0;          ///< likewise
  std::size_t cores = 0;  ///< logical processors
  std::uint64_t memory_bytes = 0;
  friend bool operator==(const MachineDescription&, const MachineDescription&) = default;
};

/// Reads /proc/cpuinfo and /proc/meminfo. What is not in the texts stays zero or empty.
[[nodiscard]] MachineDescription parse_machine(std::string_view proc_cpuinfo, std::string_view proc_meminfo);
[[nodiscard]] MachineDescription describe_machine();

/// "AMD EPYC (family 25, model 17), 2 cores, 23.4 GiB"
[[nodiscard]] std::string describe(const MachineDescription& machine);

}  // namespace krul::eval
