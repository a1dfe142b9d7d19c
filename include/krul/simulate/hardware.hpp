#pragma once

#include <array>
#include <span>
#include <string_view>

#include "krul/core/costs.hpp"

namespace krul::simulate {

/// What computes.
struct Accelerator {
  std::string_view name;
  double peak_flops = 0;       ///< dense half precision, FLOP/s
  double matrix_share = 0;     ///< of the peak that a prefill's matrix products reach
  double attention_share = 0;  ///< of the peak that attention over long contexts reaches
  double memory_bytes_per_s = 0;
  double memory_bytes = 0;
  double symbols_per_s = 0;  ///< that an entropy decoder returns

  [[nodiscard]] constexpr double matrix_flops() const noexcept { return peak_flops * matrix_share; }
  [[nodiscard]] constexpr double attention_flops() const noexcept { return peak_flops * attention_share; }
};

/// Peaks and memory: NVIDIA's data sheets for the SXM versions (of the A100 the one with 80 GB) without sparsity,
/// second-hand.
///
/// The achieved shares are an assumption, taken from one published measurement (Cake, arXiv:2410.03065, figure 4,
/// second-hand): prefill in chunks of 512 takes 39 ms at position 0 and 112 ms at position 32,256 on an A100, 27 and 94
/// ms on an H100; an H200 has the same cores and is given the same shares. If that is a 7B model (6.6 TFLOP a
/// chunk; 8.7 TFLOP of attention at the end), the matrices run at 171 and 246 TFLOP/s and the attention at 119 and 129.
///
/// zen4x2 is two cores of a Zen 4 server: what oneDNN reaches in bf16 on SmolLM2's own matrices, and memcpy, both
/// measured; attention at 130 GFLOP/s, which is what remains of krul's measured prefill of 1,024 tokens (README).
///
/// Entropy decoders: DietGPU's README reports 250 to 410 GB/s for one-byte symbols on an A100 (read); 1e11 leaves room
/// for tables that adapt. On two cores: ours, a guess.
[[nodiscard]] inline std::span<const Accelerator> accelerators() noexcept {
  static constexpr std::array<Accelerator, 4> all = {{
      {"a100", 312e12, 0.55, 0.38, 2.039e12, 80e9, 1e11},
      {"h100", 989e12, 0.25, 0.13, 3.35e12, 80e9, 1e11},
      {"h200", 989e12, 0.25, 0.13, 4.8e12, 141e9, 1e11},
      {"zen4x2", 417e9, 1, 0.31, 15e9, 16e9, 4e8},
  }};
  return all;
}

/// Where saved state comes from.
struct Link {
  std::string_view name;
  double bytes_per_s = 0;
  double latency_s = 0;  ///< per request
};

/// Rates: pcie4 26 GB/s, the effective rate that CachedAttention (arXiv:2403.19708) states for the paper's kind of
/// machine; pcie5 55 GB/s, measured between host and H100 in arXiv:2609.11744; nvme 6.5 GB/s, one PCIe 4 drive as in
/// HCache (arXiv:2410.05004); all second-hand. disk: direct reads beside zen4x2, measured. Networks at their nominal
/// rate, 1 Gb/s less its headers. Latencies: ours, orders of magnitude.
[[nodiscard]] inline std::span<const Link> links() noexcept {
  static constexpr std::array<Link, 9> all = {{
      {"pcie4", 26e9, 10e-6},
      {"pcie5", 55e9, 10e-6},
      {"nvme", 6.5e9, 100e-6},
      {"disk", 2.4e9, 100e-6},
      {"1gbit", 117e6, 200e-6},
      {"10gbit", 1.25e9, 100e-6},
      {"25gbit", 3.125e9, 100e-6},
      {"40gbit", 5e9, 100e-6},
      {"100gbit", 12.5e9, 100e-6},
  }};
  return all;
}

/// An accelerator and a link.
struct Hardware {
  Accelerator accelerator;
  LinkCosts link;
};

/// "a100-pcie4": the name of an accelerator, a hyphen, the name of a link.
/// @return false, and leaves `hardware` as it was, if there is no such pair
[[nodiscard]] inline bool find_hardware(std::string_view name, Hardware& hardware) noexcept {
  for (const Accelerator& accelerator : accelerators())
    for (const Link& link : links())
      if (name.size() == accelerator.name.size() + 1 + link.name.size() && name.starts_with(accelerator.name) &&
          name[accelerator.name.size()] == '-' && name.ends_with(link.name)) {
        hardware = {accelerator, {link.latency_s, link.bytes_per_s, 0}};
        return true;
      }
  return false;
}

}  // namespace krul::simulate
