#pragma once

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "krul/core/instruction_level.hpp"

#if defined(__x86_64__)
#include <cpuid.h>

#include <array>
#include <cstring>
#endif

namespace krul {

/// What krul knows about the processor it runs on.
struct Processor {
  std::string vendor;  ///< "AuthenticAMD"; empty where it cannot be asked
  std::string brand;   ///< "AMD EPYC"
  unsigned family = 0;
  unsigned model = 0;
  std::vector<InstructionLevel> levels{built_levels.front()};  ///< that it has and that may be used, ascending

  /// The highest that may be used.
  [[nodiscard]] InstructionLevel level() const { return levels.back(); }

  /// Whether a dot product of bf16 is worth more than the f32 products that would replace it. AMD's do two products in
  /// a lane and cycle where f32 does one; Intel's (Cooper Lake to Emerald Rapids) take four times as long as an f32
  /// product. A rule and no timing, so that a processor's results are the same from run to run.
  [[nodiscard]] bool prefers_bf16() const {
    return level() == InstructionLevel::avx512_bf16 && vendor != "GenuineIntel";
  }

  /// The processor that runs this, asked once. The environment variable KRUL_ISA, the name of a level, lowers its
  /// levels.
  /// @throws PreconditionError if KRUL_ISA names no level
  [[nodiscard]] static const Processor& detect() {
    static const Processor found = [] {
      Processor processor = ask();
      const char* const wanted = std::getenv("KRUL_ISA");
      if (const auto status = lower(processor.levels, wanted == nullptr ? "" : wanted); !status)
        throw PreconditionError(status.error().message);
      return processor;
    }();
    return found;
  }

  /// "AMD EPYC (family 25, model 17, avx512_bf16)"
  [[nodiscard]] std::string describe() const {
    const std::string known =
        vendor.empty() ? "unknown processor ("
                       : brand + " (family " + std::to_string(family) + ", model " + std::to_string(model) + ", ";
    return known + std::string(name(level())) + ")";
  }

 private:
  [[nodiscard]] static Processor ask();
};

inline Processor Processor::ask() {
  Processor found;
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0, &a, &b, &c, &d) == 0) return found;
  std::array<char, 12> vendor_text;
  std::memcpy(&vendor_text[0], &b, 4);
  std::memcpy(&vendor_text[4], &d, 4);
  std::memcpy(&vendor_text[8], &c, 4);
  found.vendor.assign(vendor_text.begin(), vendor_text.end());

  __get_cpuid(1, &a, &b, &c, &d);
  found.family = (a >> 8) & 0xF;
  found.model = (a >> 4) & 0xF;
  if (found.family == 0xF || found.family == 6) found.model += (a >> 12) & 0xF0;
  if (found.family == 0xF) found.family += (a >> 20) & 0xFF;
  const bool f16c = ((c >> 29) & 1) != 0;

  std::array<char, 49> brand_text{};
  if (__get_cpuid(0x80000004, &a, &b, &c, &d) != 0)
    for (unsigned part = 0; part < 3; ++part) {
      unsigned registers[4];
      __get_cpuid(0x80000002 + part, &registers[0], &registers[1], &registers[2], &registers[3]);
      std::memcpy(&brand_text[part * 16], registers, 16);
    }
  found.brand = brand_text.data();
  if (const auto last = found.brand.find_last_not_of(' '); last != std::string::npos) found.brand.resize(last + 1);

  // The compiler's check asks the operating system too, whether it saves the wide registers.
  using enum InstructionLevel;
  if (!f16c || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi2"))
    return found;
  found.levels.push_back(avx2);
  unsigned more = 0;
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d) != 0) more = a;
  if (((more >> 4) & 1) != 0) found.levels.push_back(avx2_vnni);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni")) {
    found.levels.push_back(avx512);
    if (((more >> 5) & 1) != 0) found.levels.push_back(avx512_bf16);
  }
#endif
  return found;
}

/// The level of the loops that this process runs, unless others are asked for.
[[nodiscard]] inline InstructionLevel instruction_level() {
  return Processor::detect().level();
}

}  // namespace krul
