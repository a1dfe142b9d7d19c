#include "krul/eval/machine_load.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <optional>

namespace krul::eval {
namespace {

/// Takes the next word off the front of `text`; empty at the end.
std::string_view next_word(std::string_view& text) {
  constexpr std::string_view blanks = " \t\n";
  text.remove_prefix(std::min(text.find_first_not_of(blanks), text.size()));
  const auto word = text.substr(0, text.find_first_of(blanks));
  text.remove_prefix(word.size());
  return word;
}

template <class Number>
std::optional<Number> number_from(std::string_view word) {
  Number value{};
  const auto [end, problem] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (problem != std::errc{} || end != word.data() + word.size() || word.empty()) return std::nullopt;
  return value;
}

/// Calls line(key, value) for each "key : value" of a text.
void for_each_entry(std::string_view text, auto&& entry) {
  while (!text.empty()) {
    const auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const auto key = line.substr(0, colon);
    auto value = line.substr(colon + 1);
    value.remove_prefix(std::min(value.find_first_not_of(" \t"), value.size()));
    entry(key.substr(0, key.find_last_not_of(" \t") + 1), value);
  }
}

std::string contents(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace

Result<ProcessorTimes> parse_processor_times(std::string_view proc_stat) {
  const auto unreadable = [] { return fail(ErrorCode::io, "/proc/stat is not as Linux writes it: measure on Linux"); };
  auto line = proc_stat.substr(0, proc_stat.find('\n'));
  if (next_word(line) != "cpu") return unreadable();
  std::uint64_t ticks[8] = {};  // user nice system idle iowait irq softirq steal
  std::size_t fields = 0;
  for (auto word = next_word(line); fields < std::size(ticks) && !word.empty(); word = next_word(line)) {
    const auto value = number_from<std::uint64_t>(word);
    if (!value) return unreadable();
    ticks[fields++] = *value;
  }
  if (fields < 4) return unreadable();
  ProcessorTimes times;
  times.busy = ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6];
  times.steal = ticks[7];
  times.total = times.busy + times.steal + ticks[3] + ticks[4];
  return times;
}

Result<std::uint64_t> parse_process_ticks(std::string_view proc_pid_stat) {
  const auto unreadable = [] {
    return fail(ErrorCode::io, "/proc/PID/stat is not as Linux writes it: is the process still there?");
  };
  const auto name_end = proc_pid_stat.rfind(')');
  if (name_end == std::string_view::npos) return unreadable();
  auto rest = proc_pid_stat.substr(name_end + 1);
  for (int skipped = 0; skipped < 11; ++skipped) next_word(rest);  // state ... cmajflt
  std::uint64_t ticks = 0;
  for (int field = 0; field < 4; ++field) {  // utime stime cutime cstime
    const auto value = number_from<std::int64_t>(next_word(rest));
    if (!value || *value < 0) return unreadable();
    ticks += static_cast<std::uint64_t>(*value);
  }
  return ticks;
}

double foreign_share(const LoadSample& before, const LoadSample& after) {
  const auto grown = [](std::uint64_t from, std::uint64_t to) {
    return to > from ? static_cast<double>(to - from) : 0;
  };
  const double total = grown(before.machine.total, after.machine.total);
  if (total == 0) return 0;
  const double others = grown(before.machine.busy, after.machine.busy) - grown(before.own, after.own);
  const double stolen = grown(before.machine.steal, after.machine.steal);
  // The kernel rounds the two sides at different moments, so others can come out a tick below zero.
  return std::min(1.0, (std::max(0.0, others) + stolen) / total);
}

Result<LoadSample> MachineLoad::sample() const {
  LoadSample sample;
  const auto add_process = [&](const std::string& name) -> Status {
    const auto ticks = parse_process_ticks(contents("/proc/" + name + "/stat"));
    if (!ticks) return propagate(ticks);
    sample.own += *ticks;
    return {};
  };
  const auto machine = parse_processor_times(contents("/proc/stat"));
  if (!machine) return propagate(machine);
  sample.machine = *machine;
  if (const auto status = add_process("self"); !status) return propagate(status);
  for (const int process : also_own_)
    if (const auto status = add_process(std::to_string(process)); !status) return propagate(status);
  return sample;
}

MachineDescription parse_machine(std::string_view proc_cpuinfo, std::string_view proc_meminfo) {
  MachineDescription machine;
  for_each_entry(proc_cpuinfo, [&](std::string_view key, std::string_view value) {
    if (key == "processor") ++machine.cores;
    if (machine.cores > 1) return;
    if (key == "model name") machine.processor = value;
    if (key == "cpu family") machine.family = number_from<int>(value).value_or(0);
    if (key == "model") machine.model = number_from<int>(value).value_or(0);
  });
  for_each_entry(proc_meminfo, [&](std::string_view key, std::string_view value) {
    if (key == "MemTotal") machine.memory_bytes = number_from<std::uint64_t>(next_word(value)).value_or(0) * 1024;
  });
  return machine;
}

MachineDescription describe_machine() {
  return parse_machine(contents("/proc/cpuinfo"), contents("/proc/meminfo"));
}

std::string describe(const MachineDescription& machine) {
  char numbers[120];
  std::snprintf(numbers, sizeof numbers, " (family %d, model %d), %zu cores, %.1f GiB", machine.family, machine.model,
                machine.cores, static_cast<double>(machine.memory_bytes) / (1024.0 * 1024.0 * 1024.0));
  return (machine.processor.empty() ? "unknown processor" : machine.processor) + numbers;
}

}  // namespace krul::eval
