// Hostile manifests, as they are and with a length and a checksum that fit.
#include "fuzz_target.hpp"
#include "krul/conversation/manifest_check.hpp"
#include "krul/similarity/attention_statistics.hpp"
#include "krul/similarity/row_attention.hpp"
#include "krul/store/manifest.hpp"
#include "krul/store/segment.hpp"
#include "sealed.hpp"

namespace krul::fuzz {
namespace {

// What is accepted must be a manifest that can be written, and must be read the same again. Whether it fits a model is
// looked at before anything is allocated for it, so that too must bear whatever it claims.
void check_manifest(std::span<const std::byte> bytes) {
  const auto manifest = parse_manifest(bytes);
  if (!accepted(manifest)) return;
  const auto again = parse_manifest(serialize(*manifest));
  require(again && *again == *manifest, "a manifest is not read as it was written");
  const Geometry geometry{.layers = manifest->layers, .kv_heads = 1, .head_dim = 4, .hidden = 8, .vocabulary = 64};
  accepted(fits_model(*manifest, geometry));
  accepted(ManifestOfFolder{"0123456789abcdef0123456789abcdef"}(*manifest));
  accepted(parse_attention_statistics(manifest->statistics));
  accepted(parse_row_attention(manifest->row_attention));
}

void read_manifest_bytes(std::span<const std::byte> input) {
  Bytes bytes(input.begin(), input.end());
  check_manifest(bytes);
  seal_manifest(bytes);
  check_manifest(bytes);
}

/// Two layers and two blocks, with all sections that there are.
std::vector<Bytes> manifest_seeds() {
  Manifest manifest;
  manifest.conversation = "a talk";
  manifest.generation = 1;
  manifest.identity = {"toy", "5", "0", "L=2", "", "loops", "any", "1"};
  manifest.tokens = {1, 5, 9, 0, 3, 9, 12};
  manifest.layers = 2;
  manifest.block = 4;
  manifest.plans = {{.strategy = "krul", .codec = "int8", .settings = "bound=0.003"}};
  SegmentWriter segment({2, 0, 2});
  for (unsigned i = 0; i < 4; ++i) segment.add(Bytes(40 + i, std::byte{7}), 4, 0);
  enter_segment(manifest, segment, segment.name(1), 6);
  std::vector<Bytes> seeds = {serialize(manifest)};
  manifest.plans[0].measured_step = std::int8_t{-3};
  manifest.plans[0].coders = {"acme.fp8.1"};
  manifest.texts = "0123";
  AttentionStatistics statistics(2, 2);
  statistics.rows = 6;
  manifest.statistics = serialize(statistics);
  RowAttention attention({1, 1});
  attention.reserve_rows(6);
  manifest.row_attention = serialize(attention);
  seeds.push_back(serialize(manifest));
  return seeds;
}

}  // namespace

Target manifest_target() {
  return {"manifest", read_manifest_bytes, manifest_seeds};
}

}  // namespace krul::fuzz
