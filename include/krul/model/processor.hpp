#pragma once

#include <cstdint>
#include <string>

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
  bool avx2 = false;         ///< AVX2, FMA and F16C
  bool avx512 = false;       ///< AVX-512 F, BW, DQ and VL, usable under this system
  bool avx512_bf16 = false;  ///< bf16 dot products beside them
  bool avx512_vnni = false;  ///< dot products of bytes beside them

  /// Whether a dot product of bf16 is worth more than the f32 products that would replace it. AMD's do two products in
  /// a lane and cycle where f32 does one; Intel's (Cooper Lake to Emerald Rapids) take four times as long as an f32
  /// product. A rule and no timing, so that a processor's results are the same from run to run.
  [[nodiscard]] bool prefers_bf16() const { return avx512_bf16 && vendor != "GenuineIntel"; }

  /// Asks the processor. A few microseconds.
  [[nodiscard]] static Processor detect();

  /// "AMD EPYC (family 25, model 17, avx512 bf16 vnni)"
  [[nodiscard]] std::string describe() const {
    if (vendor.empty()) return "unknown processor";
    return brand + " (family " + std::to_string(family) + ", model " + std::to_string(model) +
           (avx512 ? ", avx512" : "") + (avx512_bf16 ? " bf16" : "") + (avx512_vnni ? " vnni" : "") + ")";
  }
};

inline Processor Processor::detect() {
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
  found.avx2 = f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  found.avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (found.avx512 && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0) found.avx512_bf16 = ((a >> 5) & 1) != 0;
  found.avx512_vnni = found.avx512 && __builtin_cpu_supports("avx512vnni");
#endif
  return found;
}

}  // namespace krul
