// Feeds hostile bytes to parse_manifest. Built by hand, with clang:
//
//   clang++ -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -Iinclude
//           tests/fuzz/manifest_fuzz.cpp src/store/manifest.cpp src/core/checksum.cpp -o manifest_fuzz
//   mkdir -p corpus && cp tests/vectors/manifest-1.0.bin corpus
//   ./manifest_fuzz -max_total_time=60 -rss_limit_mb=512 corpus
//
// A checksum keeps a fuzzer out, so every input is tried as it is and with length and checksum made to fit.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "krul/conversation/manifest_check.hpp"
#include "krul/store/manifest.hpp"

namespace {

// What is accepted must be a manifest that can be written, and must be read the same again. Whether it fits a model is
// looked at before anything is allocated for it, so that too must bear whatever it claims.
void check(std::span<const std::byte> bytes) {
  const auto manifest = krul::parse_manifest(bytes);
  if (!manifest) {
    if (manifest.error().message.empty()) std::abort();
    return;
  }
  const auto again = krul::parse_manifest(krul::serialize(*manifest));
  if (!again || *again != *manifest) std::abort();
  const krul::Geometry geometry{
      .layers = manifest->layers, .kv_heads = 1, .head_dim = 4, .hidden = 8, .vocabulary = 64};
  if (const auto status = krul::fits_model(*manifest, geometry); !status && status.error().message.empty())
    std::abort();
  (void)krul::ManifestOfFolder{"0123456789abcdef0123456789abcdef"}(*manifest);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  check(bytes);
  constexpr std::size_t length_at = 12, header = 20;
  if (size < header + sizeof(krul::Checksum)) return 0;
  std::vector<std::byte> sealed(bytes.begin(), bytes.end());
  for (std::size_t i = 0; i < 8; ++i) sealed[length_at + i] = static_cast<std::byte>(std::uint64_t{size} >> (8 * i));
  const auto hash = krul::checksum(std::span(sealed).first(size - sizeof(krul::Checksum)));
  std::memcpy(sealed.data() + size - hash.size(), hash.data(), hash.size());
  check(sealed);
  return 0;
}
